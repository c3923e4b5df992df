"""The machine at hand as a device: micro-benchmarks, the operators of a step at their real sizes, and what both reach."""
