"""ONNX graphs, which are programs: they read files, nest, and name operators that bring their own code.

samlet runs the graphs of its own package only. A graph that somebody gives as a model is refused as a whole.
"""

from attacks.table import CANARY, CODE, Attack, collect

ONNX: list[Attack] = []
_graph = collect("onnx", ONNX)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _field(number: int, content: bytes | str | int) -> bytes:
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    raw = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _model(graph: bytes, *, domain: str = "", functions: bytes = b"") -> bytes:
    opset = _field(8, (_field(1, domain) if domain else b"") + _field(2, 17))
    return _field(1, 8) + _field(2, "samlet-attacks") + _field(7, graph) + opset + functions


def _node(operator: str, *, domain: str = "", attributes: bytes = b"") -> bytes:
    node = _field(1, "x") + _field(2, "y") + _field(4, operator) + attributes
    return _field(1, node + (_field(7, domain) if domain else b""))


def _value(of: int, name: str) -> bytes:
    shape = _field(2, _field(1, _field(1, 1)))
    return _field(of, _field(1, name) + _field(2, _field(1, _field(1, 1) + shape)))


def _graph_of(content: bytes) -> bytes:
    return content + _field(2, "graph") + _value(11, "x") + _value(12, "y")


def _external(location: str, **facts: str) -> bytes:
    entries = _field(13, _field(1, "location") + _field(2, location))
    entries += b"".join(_field(13, _field(1, key) + _field(2, value)) for key, value in facts.items())
    weight = _field(1, 4) + _field(2, 1) + _field(8, "w") + entries + _field(14, 1)
    return _model(_graph_of(_node("Identity") + _field(5, weight)))


@_graph("it is an ONNX graph, and samlet runs only the graphs of its own package")
def external_data_of_a_parent_folder() -> bytes:
    """Read a file outside the model's folder as weights."""
    return _external("../../../../../../etc/passwd")


@_graph("it is an ONNX graph, and samlet runs only the graphs of its own package")
def external_data_at_an_absolute_path() -> bytes:
    """Read a file at a fixed place as weights."""
    return _external("/etc/shadow")


@_graph("it is an ONNX graph, and samlet runs only the graphs of its own package")
def external_data_through_a_link() -> bytes:
    """Read whatever a link beside the model points to."""
    return _external(CANARY, offset="0", length="16")


@_graph("it is an ONNX graph, and samlet runs only the graphs of its own package")
def external_data_of_two_gigabytes() -> bytes:
    """Map far more of a file than there is."""
    return _external("weights.bin", offset="-1", length=str(2**31))


@_graph("it is an ONNX graph, and samlet runs only the graphs of its own package")
def tensor_of_exabytes() -> bytes:
    """Claim a weight of 2^62 numbers with no bytes behind it."""
    weight = _field(1, 2**31) + _field(1, 2**31) + _field(2, 1) + _field(8, "w") + _field(9, b"")
    return _model(_graph_of(_node("Identity") + _field(5, weight)))


@_graph("it is an ONNX graph, and samlet runs only the graphs of its own package")
def truncated_graph() -> bytes:
    """End in the middle, after promising more."""
    whole = _model(_graph_of(_node("Identity") * 500))
    return whole[: len(whole) // 2]


@_graph("it is an ONNX graph, and samlet runs only the graphs of its own package")
def graph_that_claims_two_gigabytes() -> bytes:
    """Promise a graph of two gigabytes."""
    return _field(1, 8) + _varint(7 << 3 | 2) + _varint(2**31 - 1) + b"\x0a"


@_graph("it is an ONNX graph, and samlet runs only the graphs of its own package")
def operator_with_python_code() -> bytes:
    """Bring an operator of a foreign domain, with code as its attribute."""
    code = _field(5, _field(1, "code") + _field(4, CODE) + _field(20, 3))
    return _model(
        _graph_of(_node("PyOp", domain="ai.onnx.contrib", attributes=code)), domain="ai.onnx.contrib"
    )


@_graph("it is an ONNX graph, and samlet runs only the graphs of its own package")
def graphs_within_graphs() -> bytes:
    """Nest branches a thousand deep, so that a reader that calls itself runs out of stack."""
    graph = _graph_of(_node("Identity"))
    for _ in range(1_000):
        branch = _field(5, _field(1, "then_branch") + _field(6, graph) + _field(20, 5))
        graph = _graph_of(_node("If", attributes=branch))
    return _model(graph)


@_graph("it is an ONNX graph, and samlet runs only the graphs of its own package")
def functions_that_call_each_other() -> bytes:
    """Define two functions that expand into each other without end."""
    functions = b""
    for name, other in (("A", "B"), ("B", "A")):
        body = _field(7, _node(other, domain="local")[2:])
        functions += _field(
            25, _field(1, name) + _field(4, "x") + _field(5, "y") + body + _field(10, "local")
        )
    return _model(_graph_of(_node("A", domain="local")), domain="local", functions=functions)
