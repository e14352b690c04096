"""A function of JAX as an ONNX model, one operation after the other.

Only those operations that classifiers of this project are made of. What depends on no
input is computed here and becomes a constant.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from onnx import helper, numpy_helper

from ssl_vae.errors import InputError

OPSET, IR_VERSION = 18, 8  # of December 2022: what is in use reads it

# Operations that ONNX has too, on arrays of one shape or with a scalar.
SAME = {
    "abs": "Abs",
    "add": "Add",
    "div": "Div",
    "eq": "Equal",
    "exp": "Exp",
    "lt": "Less",
    "log": "Log",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "or": "Or",
    "sqrt": "Sqrt",
    "stop_gradient": "Identity",
    "sub": "Sub",
}

Value = str | np.ndarray | np.generic  # a name in the graph, or known already


def model(
    traced: ClosedJaxpr, source: str, result: str, notes: dict[str, str]
) -> bytes:
    """The ONNX model of a function of one array, with one result.

    Args:
      traced: Of `jax.make_jaxpr`, with at most the first axis of unknown length.
      source: What to call the argument.
      result: What to call the result.
      notes: Metadata of the model.

    Raises:
      InputError: for an operation that is not known here.
    """
    graph = _Graph()
    (last,) = graph.add(traced.jaxpr, traced.consts, [source])
    graph.nodes.append(helper.make_node("Identity", [graph.name(last)], [result]))
    content = helper.make_graph(
        graph.nodes_for(result),
        "classifier",
        [_declared(source, traced.in_avals[0])],
        [_declared(result, traced.out_avals[0])],
    )
    used = {name for node in content.node for name in node.input}
    content.initializer.extend(
        numpy_helper.from_array(array, name)
        for name, array in graph.constants.items()
        if name in used
    )
    found = helper.make_model(
        content,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="ssl_vae",
    )
    helper.set_model_props(found, notes)
    return found.SerializeToString()


def _declared(name: str, aval: Any) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(aval.dtype)
    return helper.make_tensor_value_info(name, kind, [_size(n) for n in aval.shape])


def _shape(var: Any) -> tuple[Any, ...]:
    """Of a jaxpr's variable; the first length may be unknown."""
    return tuple(var.aval.shape)


def _size(length: Any, unknown: Any = "N") -> Any:
    """A length as ONNX has it; `unknown` for the number of images."""
    return length if isinstance(length, int) else unknown


class _Graph:
    """Nodes and constants so far. `on_<primitive>` adds one equation of a jaxpr."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.names: dict[int, str] = {}  # of the constants, by the id of the value
        self.kept: list[Value] = []

    def name(self, value: Value) -> str:
        """The value's name in the graph; a known one becomes a constant there."""
        if isinstance(value, str):
            return value
        # An array that is used often, as a network's weights may be, is kept once.
        name = self.names.setdefault(id(value), f"c{len(self.constants)}")
        if name not in self.constants:
            self.constants[name] = np.asarray(value)
            self.kept.append(value)  # or another may get its id
        return name

    def node(self, operation: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node; returns the name of its result."""
        name = f"v{len(self.nodes)}"
        names = [self.name(value) for value in inputs]
        self.nodes.append(helper.make_node(operation, names, [name], **attributes))
        return name

    def nodes_for(self, result: str) -> list[onnx.NodeProto]:
        """The nodes that the result depends on, in order."""
        needed, kept = {result}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        return kept[::-1]

    def add(
        self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Value]
    ) -> list[Value]:
        """Adds all equations of a jaxpr; returns its results."""
        names = [*jaxpr.constvars, *jaxpr.invars]
        env = dict(zip(names, [*consts, *inputs], strict=True))

        def read(var: Any) -> Value:
            return var.val if isinstance(var, Literal) else env[var]

        for eqn in jaxpr.eqns:
            results = self._results(eqn, [read(var) for var in eqn.invars])
            env.update(zip(eqn.outvars, results, strict=True))
        return [read(var) for var in jaxpr.outvars]

    def _results(self, eqn: JaxprEqn, inputs: list[Value]) -> Sequence[Value]:
        operation = eqn.primitive.name
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if inner is not None:  # a function within the function
            return self.add(inner.jaxpr, inner.consts, inputs)
        certain = all(isinstance(length, int) for length in _shape(eqn.outvars[0]))
        if certain and not any(isinstance(value, str) for value in inputs):
            results = eqn.primitive.bind(*inputs, **eqn.params)
            return results if eqn.primitive.multiple_results else [results]
        if operation in SAME:
            return [self.node(SAME[operation], *inputs)]
        rule = getattr(self, f"on_{operation}", None)
        if rule is None:
            raise _unknown(eqn)
        results = rule(eqn, *inputs)
        return results if eqn.primitive.multiple_results else [results]

    def on_broadcast_in_dim(self, eqn: JaxprEqn, x: Value) -> str:
        lengths = [1] * len(eqn.params["shape"])
        for axis, size in zip(
            eqn.params["broadcast_dimensions"], _shape(eqn.invars[0]), strict=True
        ):
            lengths[axis] = _size(size, 0)
        x = self.node("Reshape", x, np.array(lengths))
        # An axis of the unknown length is that already, or of length 1, which goes
        # with any.
        wanted = [_size(size, 1) for size in eqn.params["shape"]]
        return self.node("Expand", x, np.array(wanted))

    def on_reshape(self, eqn: JaxprEqn, x: Value) -> str:
        # 0: as it was.
        lengths = [_size(size, 0) for size in _shape(eqn.outvars[0])]
        return self.node("Reshape", x, np.array(lengths))

    on_squeeze = on_reshape

    def on_concatenate(self, eqn: JaxprEqn, *parts: Value) -> str:
        return self.node("Concat", *parts, axis=eqn.params["dimension"])

    def on_convert_element_type(self, eqn: JaxprEqn, x: Value) -> str:
        kind = helper.np_dtype_to_tensor_dtype(eqn.params["new_dtype"])
        return self.node("Cast", x, to=kind)

    def on_dot_general(self, eqn: JaxprEqn, x: Value, y: Value) -> str:
        last = len(_shape(eqn.invars[0])) - 1
        if eqn.params["dimension_numbers"] != (((last,), (0,)), ((), ())):
            raise _unknown(eqn)
        return self.node("MatMul", x, y)

    def on_gather(self, eqn: JaxprEqn, x: Value, indices: Value) -> str:
        # Some of the places along one axis, all of every other.
        numbers, shape = eqn.params["dimension_numbers"], _shape(eqn.invars[0])
        axis = max(numbers.collapsed_slice_dims, default=0)
        places = len(_shape(eqn.invars[1])) - 1  # axes of the result that are new
        others = (*range(axis), *range(axis + places, len(shape) - 1 + places))
        if (
            numbers.collapsed_slice_dims != (axis,)
            or numbers.start_index_map != (axis,)
            or numbers.offset_dims != others
            or eqn.params["slice_sizes"] != (*shape[:axis], 1, *shape[axis + 1 :])
        ):
            raise _unknown(eqn)
        if not isinstance(indices, str):
            return self.node("Gather", x, np.asarray(indices)[..., 0], axis=axis)
        return self.node(
            "Gather", x, self.node("Squeeze", indices, np.array([-1])), axis=axis
        )

    def on_integer_pow(self, eqn: JaxprEqn, x: Value) -> str:
        return self.node("Pow", x, np.array(eqn.params["y"], np.float32))

    def on_log1p(self, eqn: JaxprEqn, x: Value) -> str:
        return self.node("Log", self.node("Add", x, np.float32(1)))

    def on_ne(self, eqn: JaxprEqn, x: Value, y: Value) -> str:
        return self.node("Not", self.node("Equal", x, y))

    def on_pad(self, eqn: JaxprEqn, x: Value, value: Value) -> str:
        low, high, inside = zip(*eqn.params["padding_config"], strict=True)
        if any(inside):
            raise _unknown(eqn)
        return self.node("Pad", x, np.array([*low, *high]), value)

    def on_reduce_max(self, eqn: JaxprEqn, x: Value) -> str:
        return self.node("ReduceMax", x, np.array(eqn.params["axes"]), keepdims=0)

    def on_reduce_sum(self, eqn: JaxprEqn, x: Value) -> str:
        return self.node("ReduceSum", x, np.array(eqn.params["axes"]), keepdims=0)

    def on_reduce_window_sum(self, eqn: JaxprEqn, x: Value) -> str:
        sizes, padding = eqn.params["window_dimensions"], eqn.params["padding"]
        dilated = {*eqn.params["base_dilation"], *eqn.params["window_dilation"]} != {1}
        if sizes[:2] != (1, 1) or len(sizes) != 4 or dilated:
            raise _unknown(eqn)
        low, high = zip(*padding[2:], strict=True)
        mean = self.node(
            "AveragePool",
            x,
            kernel_shape=sizes[2:],
            strides=eqn.params["window_strides"][2:],
            pads=[*low, *high],
            count_include_pad=1,
        )
        return self.node("Mul", mean, np.float32(np.prod(sizes)))

    def on_select_n(self, eqn: JaxprEqn, which: Value, *cases: Value) -> str:
        return self.node("Where", which, *reversed(cases))

    def on_slice(self, eqn: JaxprEqn, x: Value) -> str:
        starts, ends = eqn.params["start_indices"], eqn.params["limit_indices"]
        steps = eqn.params["strides"] or [1] * len(starts)
        ends = [_size(end, np.iinfo(np.int64).max) for end in ends]
        axes = range(len(starts))
        return self.node("Slice", x, *map(np.array, (starts, ends, axes, steps)))

    def on_top_k(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        values, places = f"v{len(self.nodes)}", f"places{len(self.nodes)}"
        names = [self.name(x), self.name(np.array([eqn.params["k"]]))]
        axis = eqn.params["axis"]
        node = helper.make_node("TopK", names, [values, places], axis=axis)
        self.nodes.append(node)
        return [values, self.node("Cast", places, to=onnx.TensorProto.INT32)]

    def on_square(self, eqn: JaxprEqn, x: Value) -> str:
        return self.node("Mul", x, x)


def _unknown(eqn: JaxprEqn) -> InputError:
    return InputError(
        f"--format=onnx: not known how to write this kind of {eqn.primitive.name};"
        " use --format=jax"
    )
