"""Compiler and system: fusion, memory management, batching, parallelism."""

TECHNIQUES: dict[str, str] = {
    "fuse": "Fuse",
    "flash-attention": "FlashAttention",
    "flash-decoding": "FlashDecoding",
    "paged-cache": "PagedCache",
    "offload": "Offload",
    "mixed-batch": "MixedBatch",
    "chunked-prefill": "ChunkedPrefill",
    "ragged-batch": "RaggedBatch",
    "prefix-cache": "PrefixCache",
    "tensor-parallel": "TensorParallel",
    "pipeline-parallel": "PipelineParallel",
    "expert-parallel": "ExpertParallel",
    "sequence-parallel": "SequenceParallel",
    "data-parallel": "DataParallel",
}
"""Name on the command line, and its class; the module is the name with underscores."""
