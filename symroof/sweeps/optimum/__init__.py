"""The best points: by branch and bound over boxes, with certificates, or in one pass of machine code over all points."""
