"""Files made to harm: each is refused in one line, and nothing of it runs or is written."""

import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from api.gpt.importers.plain_pickle import PlainPickleError, loads
from tests.support.foreign_models import nanogpt_checkpoint, nanogpt_meta, nanogpt_state

CHARS = "abc"


class Harm:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def trap(tmp_path):
    """A path that a hostile file would create, if anything of it ran."""
    path = tmp_path / "trap"
    yield path
    assert not path.exists()


@pytest.fixture
def good(tmp_path):
    """The path of a good checkpoint, to be spoiled, and its meta.pkl."""
    state = nanogpt_state(V=3, T=4, L=1, C=8, bias=False)
    torch.save(nanogpt_checkpoint(state, n_head=1), tmp_path / "ckpt.pt")
    (tmp_path / "meta.pkl").write_bytes(nanogpt_meta(CHARS))
    return tmp_path / "ckpt.pt", tmp_path / "meta.pkl"


def one_line(said, *parts):
    assert "\n" not in said
    assert len(said) < 500
    for part in parts:
        assert part in said


def harms(trap):
    """Things that a pickle would do, by name."""
    shell = f"touch {trap}"
    return {
        "os.system": Harm(os.system, shell),
        "eval": Harm(eval, f"open({str(trap)!r}, 'w')"),
        "nested": {"a": [1, ({"b": [Harm(os.system, shell)]},)]},
        "getattr": Harm(getattr, "abc", "upper"),
        "pickle.loads": Harm(pickle.loads, pickle.dumps(Harm(os.system, shell))),
        "torch.load": Harm(torch.load, str(trap)),
        "numpy": np.float64(1.5),
        "numpy array": np.zeros(3),
        "a counter": collections.Counter("abc"),
        "a path": Path("x"),
    }


NAMES = sorted(harms("x"))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", NAMES)
def test_no_meta_runs_anything(name, protocol, trap, good, refusal):
    """A call in any protocol of pickle, wherever it is put, is refused."""
    ckpt, meta = good
    itos = dict(enumerate(CHARS))
    for document in ({"itos": itos, "x": harms(trap)[name]}, harms(trap)[name]):
        meta.write_bytes(pickle.dumps(document, protocol))
        one_line(refusal("nanogpt", ckpt, meta), "meta.pkl: refused: it would run code")


@pytest.mark.parametrize("name", [n for n in NAMES if n != "a counter"])
def test_no_checkpoint_runs_anything(name, trap, good, refusal):
    """A call in a checkpoint is refused before torch has seen it, and the name is told."""
    ckpt, meta = good
    torch.save({"model": {}, "model_args": harms(trap)[name]}, ckpt)
    one_line(refusal("nanogpt", ckpt, meta), "ckpt.pt: refused: it asks for ", "model.state_dict()")


class Model(torch.nn.Module):
    """What a user saves whole by mistake."""


def test_a_whole_model_is_refused_with_advice(good, refusal):
    """`torch.save(model)` needs the user's code to be read: the refusal says what to save."""
    ckpt, _ = good
    torch.save(torch.nn.Linear(2, 2), ckpt)
    said = refusal("lecture", ckpt, "--chars", CHARS)
    one_line(said, "it asks for torch.nn.modules.linear.Linear", "save model.state_dict()")


PLAIN = {
    "itos": dict(enumerate("añ漢")),
    "list": [1, 2.5, None, True, "x" * 300, -(2**40), [], {}],
    "tuple": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, "4")),
    "again": ["same"] * 3,
    3: {"nested": {"deep": [[[]]]}},
    "float": -1.5,
    "false": False,
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(protocol):
    """Dictionaries, lists, tuples, strings and numbers are read, in every protocol."""
    assert loads(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", range(6))
def test_no_damage_is_more_than_a_refusal(protocol):
    """Cut anywhere, or with any byte changed, a pickle is read as plain data or refused."""
    data = pickle.dumps(PLAIN, protocol)
    for i in range(len(data)):
        with pytest.raises(PlainPickleError):
            loads(data[:i])
        for byte in (0, 0x2E, 0x52, 0x93, 0xFF):  # STOP, REDUCE and STACK_GLOBAL among them
            try:
                loads(data[:i] + bytes([byte]) + data[i + 1 :])
            except PlainPickleError as exc:
                assert "\n" not in str(exc)  # noqa: PT017 # either outcome is good, if it is quiet


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        b"\x80\x05.",
        b".",
        b"(.",
        b"(1.",
        b"h\x05.",  # a memo that was never written
        b"\x94.",  # memoise nothing
        b"}(K\x01u.",  # a key without a value
        b"}(]K\x01u.",  # a list as a key
        b"}K\x01)s" * 3,
        b"})K\x01s.",  # a tuple as a key: nested ones would take for ever to hash
        b"K\x01K\x02a.",  # append to a number
        b"(0.",
        b"r\xff\xff\xff\xff.",  # a memo of four thousand million entries
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a string of 2^63 bytes
        b"\x8b\xff\xff\xff\x7f.",  # an integer of 2^31 bytes
        b"I" + b"9" * 5000 + b"\n.",
        b"\x82\x01.",  # an extension code
        b"Pid\n.",  # a persistent id
        b"K\x01Q.",
        b"cos\nsystem\n(S'id'\ntR.",
        b"(S'id'\nios\nsystem\n.",
        b"\x8c\x02os\x8c\x06system\x93.",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xff}",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x97.",  # an out-of-band buffer
        b"2.",
    ],
)
def test_tricks_are_refused(data):
    """Malformed programs, huge sizes, and every way to name or call something."""
    with pytest.raises(PlainPickleError) as refused:
        loads(data)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({2**61 - 1: 0}, "an integer beyond 1048576 as a key"),
        (dict.fromkeys(range(2**18 + 1)), "more than 262144 keys"),
        ({1.5: 0}, "a float as a key"),
        ({None: 0}, "a NoneType as a key"),
    ],
)
def test_keys_that_collide_are_refused(document, message):
    """A dictionary of chosen numbers would take quadratic time; so would a memo with gaps."""
    with pytest.raises(PlainPickleError, match=message):
        loads(pickle.dumps(document))
    with pytest.raises(PlainPickleError, match="a gap in its memo"):
        loads(b"}r\xff\xff\xff\x7f.")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"a": 2**80}, "numbers beyond reason"),
        ({"a": list(range(2**15 + 1))}, "numbers beyond reason"),
    ],
)
def test_numbers_beyond_reason_are_refused(document, message, good, refusal):
    """What torch would read as the keys of a dictionary is bounded before torch reads it."""
    torch.save(document, good[0])
    one_line(refusal("nanogpt", *good), message)


@pytest.mark.parametrize("value", [np.float64(1.5), {1}, Path("x")], ids=["numpy", "set", "path"])
def test_metadata_that_is_not_plain_names_its_entry(value, good, refusal):
    """Who saved a loss or a path of another kind beside the weights is told which entry it is."""
    torch.save({"model": {"w": torch.ones(1)}, "model_args": {}, "best": value}, good[0])
    one_line(refusal("nanogpt", *good), "after 'best'", "save it without that entry")


def test_names_of_strangers_do_not_steer_the_terminal(good, refusal):
    """Names of tensors, of functions and of odd keys come without control characters and lines."""
    ckpt, meta = good
    bad, safe = "evil\x1b[2J\nimport: all is well", "evil\ufffd[2J\ufffdimport: all is well"
    state = nanogpt_state(V=3, T=4, L=1, C=8, bias=False)
    torch.save(nanogpt_checkpoint({**state, bad: torch.ones(1)}, n_head=1), ckpt)
    said = refusal("nanogpt", ckpt, meta)
    assert safe in said
    assert len(said.splitlines()) == 2
    torch.save({bad: torch.ones(1).expand(10**9)}, ckpt)
    one_line(refusal("lecture", ckpt, "--chars", "a"), f"{safe}: claims")
    torch.save({0: torch.ones(1)}, ckpt)
    one_line(refusal("lecture", ckpt, "--chars", "a"), "the key 0 is no name of a tensor")
    with pytest.raises(PlainPickleError, match="of a\ufffdb c"):
        loads(b"ca\x1bb\nc\n.")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (pickle.dumps({"itos": {False: "a", True: "b"}}), "must number its characters"),
        (pickle.dumps([1]), 'has no "itos"'),
        (pickle.dumps({"itos": {}}), 'has no "itos"'),
        (pickle.dumps({"itos": {0: "a", 2: "b"}}), "must number its characters 0 to 1"),
        (pickle.dumps({"itos": {0: "a", 1: "bc"}}), "single characters"),
        (pickle.dumps({"itos": {0: "a", 1: "a"}}), "every character once"),
        (pickle.dumps({"itos": {0: 5}}), "single characters"),
        (pickle.dumps({"itos": {0: "\ud800"}}), "surrogate"),
        (pickle.dumps({"itos": dict(enumerate("abc"))})[:-4], "not a whole pickle"),
        (b"hello", "not a whole pickle"),
    ],
)
def test_a_meta_that_is_no_vocabulary_is_refused(meta, message, good, refusal):
    """Whatever else is plain data, a vocabulary numbers single characters from 0."""
    good[1].write_bytes(meta)
    one_line(refusal("nanogpt", *good), message)


def test_a_meta_beyond_reason_is_not_read(good, refusal):
    """A file of 65 MiB where kilobytes are expected is refused by its size."""
    with good[1].open("r+b") as file:
        file.truncate(65 * 2**20)
    one_line(refusal("nanogpt", *good), "larger than 64 MiB")


# Checkpoints


def rewritten(path, change, *, compression=zipfile.ZIP_STORED):
    """Write a checkpoint's archive anew; `change(name, data)` returns an entry's new bytes."""
    source = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in source.namelist():
            archive.writestr(name, change(name, source.read(name)))


def test_a_compressed_archive_is_refused(good, refusal):
    """A zip bomb is compressed; what torch writes is not."""
    rewritten(good[0], lambda _, data: data + bytes(10**6), compression=zipfile.ZIP_DEFLATED)
    one_line(refusal("nanogpt", *good), "its entries are compressed")


def test_entries_that_overlap_are_refused(good, refusal):
    """Entries that claim the same bytes again and again add up to more than the file."""
    data = bytearray(good[0].read_bytes())
    at = data.find(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    good[0].write_bytes(data)
    one_line(refusal("nanogpt", *good), "claim more than its size")


def test_a_tensor_larger_than_what_is_stored_is_refused(good, refusal):
    """A tensor that repeats one number by a stride of 0 would take all memory once copied."""
    ckpt, meta = good
    state = nanogpt_state(V=3, T=4, L=1, C=8, bias=False)
    state["transformer.ln_f.weight"] = torch.ones(1).expand(10**12)
    torch.save(nanogpt_checkpoint(state, n_head=1), ckpt)
    one_line(refusal("nanogpt", ckpt, meta), "transformer.ln_f.weight: claims 4000000000000 bytes")


def test_many_tensors_of_the_same_bytes_are_refused(good, refusal):
    """Tensors that share their storage cannot make a small file into a large model."""
    ckpt, meta = good
    state = nanogpt_state(V=3, T=4, L=6, C=64, bias=False)
    shared = torch.zeros(4 * 64 * 64)
    state = {
        name: tensor if tensor.ndim == 1 else shared[: tensor.numel()].view(tensor.shape)
        for name, tensor in state.items()
    }
    state.pop("lm_head.weight")
    torch.save(
        {k: v for k, v in nanogpt_checkpoint(state, n_head=1).items() if k != "optimizer"}, ckpt
    )
    one_line(refusal("nanogpt", ckpt, meta), "more than it can hold")


def test_a_damaged_checkpoint_is_refused(good, refusal):
    """Cut at any place it is refused, and never a crash."""
    ckpt, meta = good
    data = ckpt.read_bytes()
    for size in (0, 1, 100, len(data) // 2, len(data) - 200, len(data) - 1):
        ckpt.write_bytes(data[:size])
        one_line(refusal("nanogpt", ckpt, meta), "ckpt.pt: not a checkpoint that torch")


@pytest.mark.parametrize("entry", ["data.pkl", "data/0", "version", "byteorder"])
def test_a_damaged_entry_is_refused(entry, good, refusal):
    """An entry that is empty or nonsense is a refusal that names the file."""
    for content in (b"", b"nonsense"):
        pristine = good[0].read_bytes()
        rewritten(good[0], lambda name, data, c=content: c if name.endswith(entry) else data)
        try:
            said = refusal("nanogpt", *good)
        except AssertionError:
            assert entry in {"version", "byteorder"}  # torch reads on without them
        else:
            one_line(said, "ckpt.pt: ")
        good[0].write_bytes(pristine)


def test_files_that_are_something_else_are_refused(good, refusal, tmp_path):
    """A plain pickle, a text, a directory, nothing at all, torch's format before 1.6."""
    ckpt, meta = good
    assert "No such file" in refusal("nanogpt", tmp_path / "nowhere.pt", meta)
    assert "Is a directory" in refusal("nanogpt", tmp_path, meta)
    ckpt.write_text("hello")
    one_line(refusal("nanogpt", ckpt, meta), "not a checkpoint that torch.save wrote")
    ckpt.write_bytes(pickle.dumps(Harm(os.system, "true")))
    one_line(refusal("nanogpt", ckpt, meta), "not a checkpoint that torch.save wrote")
    torch.save({"model": 1}, ckpt, _use_new_zipfile_serialization=False)
    one_line(refusal("nanogpt", ckpt, meta), "torch 1.6 or newer")
    torch.save([1], ckpt)
    one_line(refusal("nanogpt", ckpt, meta), 'has no "model" and "model_args"')
    torch.save([1], ckpt)
    one_line(refusal("lecture", ckpt, "--chars", "a"), "holds no state dict")


def test_tensors_of_an_odd_kind_are_refused(good, refusal):
    """Sparse tensors, and ones that have no numbers, are no weights."""
    ckpt, _ = good
    for odd in (torch.ones(2, 2).to_sparse(), torch.empty(2, device="meta")):
        torch.save({"a": odd}, ckpt)
        one_line(refusal("lecture", ckpt, "--chars", "a"), "ckpt.pt: ")
