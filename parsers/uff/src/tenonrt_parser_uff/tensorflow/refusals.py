"""Why some operations have no mapping: they belong to training, to loading data, or to control flow."""

from __future__ import annotations

from fnmatch import fnmatchcase

_REASONS = {
    "Variable|VariableV2|AutoReloadVariable|VarHandleOp|ReadVariableOp|ResourceGather|VarIsInitializedOp|TemporaryVariable":
        "the graph holds variables: freeze it, so that they are constants",
    "Assign*|Apply*|ResourceApply*|SparseApply*|ResourceSparseApply*|ScatterUpdate|*Grad|*GradV2|*GradV3|*BackpropFilter|"
    "AccumulateNV2Gradient": "it belongs to training; export the graph for inference",
    "Random*|TruncatedNormal|Multinomial|StatelessRandom*|ParameterizedTruncatedNormal|Dropout":
        "it draws random numbers, as dropout does in training; export the graph for inference",
    "*Queue*|*Iterator*|*Dataset*|*Reader*|ReadFile|Decode*|ParseExample*|ParseSingleExample*|Batch|Unbatch|QueueDequeue*":
        "it loads data; put an input in its place",
    "Enter|Exit|NextIteration|LoopCond|RefEnter|RefExit|RefNextIteration|While|StatelessWhile|TensorArray*|TensorList*|Stack*":
        "loops are not supported; unroll them",
    "If|StatelessIf|Case|PartitionedCall|StatefulPartitionedCall|SymbolicGradient|RemoteCall":
        "functions are not supported; inline them when freezing",
    "PyFunc*|EagerPyFunc": "it calls Python code, which is not in the file",
    "Quantize*|Quantized*|Dequantize|Requantiz*": "graphs of integers are not supported",
    "Hash*|LookupTable*|InitializeTable*|Mutable*Table*": "tables are not supported",
    "Save*|Restore*|MergeV2Checkpoints|ShardedFilename": "it belongs to a checkpoint; it is no part of the inference",
    "SparseToDense|Sparse*": "sparse tensors are not supported",
}  # fmt: skip


def reason(operation: str) -> str | None:
    """A sentence on what to do, or None where there is nothing to add."""
    for patterns, sentence in _REASONS.items():
        if any(fnmatchcase(operation, pattern) for pattern in patterns.split("|")):
            return sentence
    return None
