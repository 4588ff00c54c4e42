"""Pickles that would run something: through every instruction that fetches, calls, makes or fills objects."""

import struct

from attacks.assembly import (
    START,
    STOP,
    called,
    legacy_file,
    name,
    number,
    numbers,
    storage,
    tensor,
    text,
    torch_file,
    weights,
)
from attacks.table import CODE, COMMAND, Attack, collect

PICKLES: list[Attack] = []
_runs = collect("pickle", PICKLES, fires=True)
_quiet = collect("pickle", PICKLES)


def _short(value: str) -> bytes:
    raw = value.encode()
    return b"\x8c" + bytes((len(raw),)) + raw


@_runs("names 'os.system'")
def os_system_by_reduce() -> bytes:
    """Run a command through os.system, the plainest of all."""
    return torch_file(weights(called(name("os", "system"), text(COMMAND)))).bytes()


@_runs("names 'os.system'")
def plain_pickle() -> bytes:
    """Run a command from a pickle that is not even a torch file."""
    return START + called(name("os", "system"), text(COMMAND)) + STOP


@_runs("names 'os.system'")
def legacy_form() -> bytes:
    """Run a command from the tree of the legacy form."""
    return legacy_file(START + called(name("os", "system"), text(COMMAND)) + STOP)


@_runs("names 'os.system'")
def legacy_magic_number() -> bytes:
    """Run a command where the legacy form has its magic number, before anything was checked."""
    return START + b"(" + called(name("os", "system"), text(COMMAND)) + b"1" + number(1) + STOP


@_runs("its pickle has the instruction INST, which torch does not write")
def system_by_inst() -> bytes:
    """Run a command through the old instruction INST, which fetches and calls at once."""
    return torch_file(weights(b"(" + text(COMMAND) + b"ios\nsystem\n")).bytes()


@_runs("names 'os.system'")
def system_by_obj() -> bytes:
    """Run a command through the instruction OBJ."""
    return torch_file(weights(b"(" + name("os", "system") + text(COMMAND) + b"o")).bytes()


@_runs("names 'subprocess.getoutput'")
def subprocess_by_global() -> bytes:
    """Run a program through subprocess.getoutput."""
    return torch_file(weights(called(name("subprocess", "getoutput"), text(COMMAND)))).bytes()


@_runs("names 'builtins.eval'")
def eval_by_stack_global() -> bytes:
    """Evaluate code through a name that is put together on the stack, as protocol 4 does."""
    code = _short("builtins") + _short("eval") + b"\x93" + text(CODE) + b"\x85R"
    return torch_file(b"\x80\x04}" + text("bad") + code + b"s.").bytes()


@_runs("names 'builtins.exec'")
def exec_by_old_name() -> bytes:
    """Execute code through the module name of Python 2, which readers translate."""
    return torch_file(weights(called(name("__builtin__", "exec"), text(CODE)))).bytes()


@_runs("names 'builtins.__import__'")
def getattr_chain() -> bytes:
    """Climb from an import to a function through getattr, which pickled detectors really use."""
    module = called(name("__builtin__", "__import__"), text("os"))
    system = called(name("__builtin__", "getattr"), module, text("system"))
    return torch_file(weights(called(system, text(COMMAND)))).bytes()


@_quiet("its pickle asks getattr for '__init__'")
def getattr_of_a_stub() -> bytes:
    """Ask a class that is allowed for another attribute than the one that is."""
    head = name("ultralytics.nn.modules.head", "Detect")
    return torch_file(weights(called(name("__builtin__", "getattr"), head, text("__init__")))).bytes()


@_quiet("its pickle calls 'ultralytics.nn.modules.head.Detect.forward'")
def call_of_a_method() -> bytes:
    """Call the one method that may be mentioned."""
    head = name("ultralytics.nn.modules.head", "Detect")
    method = called(name("__builtin__", "getattr"), head, text("forward"))
    return torch_file(weights(called(method, text(COMMAND)))).bytes()


@_quiet("names 'ultralytics.nn.tasks.os.system'")
def dotted_name_in_an_allowed_module() -> bytes:
    """Reach os through the attributes of a module whose classes are allowed."""
    path = _short("ultralytics.nn.tasks") + _short("os.system") + b"\x93"
    return torch_file(b"\x80\x04}" + text("bad") + path + text(COMMAND) + b"\x85Rs.").bytes()


@_quiet("names 'subprocess.Popen'")
def new_object_with_keywords() -> bytes:
    """Make a process object through NEWOBJ_EX, which calls a class with keywords."""
    keywords = b"}(" + text("args") + text(COMMAND) + text("shell") + b"\x88u"
    return torch_file(weights(name("subprocess", "Popen") + b")" + keywords + b"\x92")).bytes()


@_quiet("its pickle makes an object of 'torch._utils._rebuild_tensor_v2'")
def new_object_of_a_function() -> bytes:
    """Make an object of something that is no class, to confuse the reader."""
    return torch_file(weights(name("torch._utils", "_rebuild_tensor_v2") + b")\x81")).bytes()


@_quiet("its pickle gives a state to 'types.SimpleNamespace' that torch would not")
def state_with_slots() -> bytes:
    """Set attributes, the class among them, through a state of two parts."""
    made = name("types", "SimpleNamespace") + b")\x81"
    slots = b"N}" + text("__class__") + name("ultralytics.nn.tasks", "SegmentationModel") + b"s\x86b"
    return torch_file(weights(made + slots)).bytes()


@_quiet("its pickle gives a state to 'collections.OrderedDict' that torch would not")
def state_of_a_class() -> bytes:
    """Change a class by giving it a state: every later object of it would behave differently."""
    changed = name("collections", "OrderedDict") + b"}" + text("__reduce__") + b"Nsb"
    return torch_file(weights(changed + b"0N")).bytes()


@_quiet("its pickle gives a state to 'Tensor' that torch would not")
def state_of_a_tensor() -> bytes:
    """Give a tensor a state through __setstate__."""
    return torch_file(weights(tensor() + b"}" + text("data") + b"Nsb")).bytes()


@_quiet("names 'torch.storage._load_from_bytes'")
def pickle_within_a_pickle() -> bytes:
    """Hide a second pickle in the bytes that torch.storage would load without asking."""
    inner = START + called(name("os", "system"), text(COMMAND)) + STOP
    hidden = b"B" + struct.pack("<I", len(inner)) + inner
    return torch_file(weights(called(name("torch.storage", "_load_from_bytes"), hidden))).bytes()


@_runs("names '_pickle.loads'")
def pickle_loads_within_a_pickle() -> bytes:
    """Hand a second pickle to Python's own reader."""
    inner = START + called(name("os", "system"), text(COMMAND)) + STOP
    hidden = b"B" + struct.pack("<I", len(inner)) + inner
    return torch_file(weights(called(name("_pickle", "loads"), hidden))).bytes()


@_quiet("names 'dill._dill._create_function'")
def dill_function() -> bytes:
    """Make a function from its byte code, as dill does."""
    code = called(name("dill._dill", "_create_code"), number(0), number(0))
    return torch_file(weights(called(name("dill._dill", "_create_function"), code))).bytes()


@_quiet("names 'pip.main'")
def pip_install() -> bytes:
    """Install a package, which scanners have overlooked."""
    return torch_file(
        weights(called(name("pip", "main"), b"](" + text("install") + text("x") + b"e"))
    ).bytes()


@_quiet("names 'torch.jit.unsupported_tensor_ops.execWrapper'")
def torch_gadget() -> bytes:
    """Execute code through a function within torch itself."""
    where = name("torch.jit.unsupported_tensor_ops", "execWrapper")
    return torch_file(weights(called(where, text(CODE), b"}", b"}"))).bytes()


@_runs("names 'code.InteractiveInterpreter'")
def library_gadget() -> bytes:
    """Execute code through a harmless-looking function of the standard library."""
    made = called(name("code", "InteractiveInterpreter"))
    run = called(name("__builtin__", "getattr"), made, text("runsource"))
    return torch_file(weights(called(run, text(CODE)))).bytes()


@_quiet("its pickle has the instruction EXT1, which torch does not write")
def extension_code() -> bytes:
    """Fetch a class by a number that the reader's own registry would resolve."""
    return torch_file(weights(b"\x82\x01")).bytes()


@_quiet("its pickle has the instruction PERSID, which torch does not write")
def persistent_text() -> bytes:
    """Mention a storage through the text instruction, which has another parser."""
    return torch_file(weights(b"P../../../../etc/passwd\n")).bytes()


@_quiet("its pickle mentions a storage in another way than torch does")
def storage_in_another_folder() -> bytes:
    """Mention a storage whose name leads out of the archive."""
    return torch_file(weights(tensor(storage("../../../../../etc/passwd")))).bytes()


@_quiet("its storage '7' is missing")
def storage_that_is_missing() -> bytes:
    """Mention a storage that the archive does not have."""
    return torch_file(weights(tensor(storage("7")))).bytes()


@_quiet("claims 1,099,511,627,776 numbers and has 16 bytes")
def storage_larger_than_its_bytes() -> bytes:
    """Claim more numbers than the storage has, so that a reader looks into foreign memory."""
    pickle = weights(tensor(storage("1", 2**40), size=(2**40,)))
    return torch_file(pickle).add("archive/data/1", bytes(16)).bytes()


@_quiet("its storage '0' is mentioned in two ways")
def storage_of_two_kinds() -> bytes:
    """Mention one storage as two kinds of numbers."""
    return torch_file(weights(tensor(storage(count=2, kind="DoubleStorage"), size=(2,)))).bytes()


@_quiet("a tensor in it lies outside its storage")
def tensor_outside_its_storage() -> bytes:
    """Read behind the end of a storage through offset and stride."""
    return torch_file(weights(tensor(offset=3, size=(2,), stride=(5,)))).bytes()


@_quiet("a tensor in it has a size or a place that is no whole number from zero on")
def tensor_before_its_storage() -> bytes:
    """Read before the beginning of a storage through a negative offset."""
    return torch_file(weights(tensor(offset=-4))).bytes()


@_quiet("a tensor in it has a size or a place that is no whole number from zero on")
def tensor_with_negative_stride() -> bytes:
    """Read before the beginning of a storage through a negative stride."""
    return torch_file(weights(tensor(stride=(-1,)))).bytes()


@_quiet("a tensor in it claims more numbers than any computer holds")
def tensor_whose_size_overflows() -> bytes:
    """Overflow 64 bits with a size, so that the check of its end passes."""
    return torch_file(weights(tensor(size=(2**33, 2**33), stride=(2**31, 1)))).bytes()


@_quiet("a tensor in it has a size or a place that is no whole number from zero on")
def tensor_with_odd_numbers() -> bytes:
    """Put a truth value where a size belongs."""
    hooks = called(name("collections", "OrderedDict"))
    what = (storage(), number(0), b"(\x88t", numbers(1), b"\x89", hooks)
    return torch_file(weights(called(name("torch._utils", "_rebuild_tensor_v2"), *what))).bytes()


@_quiet("its pickle sets items of something that is no dict")
def items_of_something_else() -> bytes:
    """Set items of a tensor, which once corrupted torch's heap."""
    return torch_file(weights(tensor() + text("key") + b"Ns")).bytes()


@_quiet("its storage '1' is cut short or has another size than it claims")
def legacy_storage_that_lies() -> bytes:
    """Claim more numbers in the legacy form than follow."""
    held = b"(" + text("storage") + name("torch", "FloatStorage") + text("1") + text("cpu")
    held += number(2**40) + b"NtQ"
    pickle = START + b"}" + text("a") + tensor(held, size=(2**40,)) + b"s" + STOP
    return legacy_file(pickle, keys=("1",), tail=(2**40).to_bytes(8, "little") + bytes(16))
