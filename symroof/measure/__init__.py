"""The local machine as a device: micro-benchmarks, and the operators of a step at their real sizes."""
