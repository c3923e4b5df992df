"""The roofline: what every operator demands, the rates of a machine, and the time that follows."""
