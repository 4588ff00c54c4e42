"""What is measured, part by part. A row is {"what", "who", "value", "low", "high", "unit", "rounds", "note"}."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

REFERENCE = "mobile_sam (torch)"
OURS = "samlet (onnx)"
UNDECLARED = {"mobilesam-mirror": ("torch", "torchvision", "timm")}
SIZES_MPIXEL = (0.3, 1, 3, 12, 50)


@dataclass
class Contestant:
    """Who takes part, and how its worker is started."""

    name: str
    kind: str
    weights: str
    python: str = sys.executable
    missing: str = ""


@dataclass
class Setting:
    """Weights, pictures and contestants of a run."""

    work: Path
    photo: Path
    rounds: int
    threads: int
    device: str
    contestants: list[Contestant] = field(default_factory=list)

    @classmethod
    def prepare(cls, args, work):
        """Make what is not there yet."""
        work.mkdir(parents=True, exist_ok=True)
        weights = work / "mobile_sam.pt"
        if not weights.exists():
            code = "import sys; from tests.random_mobile_sam import save; save(sys.argv[1])"
            subprocess.run([sys.executable, "-c", code, str(weights)], check=True)
        found = cls(work, args.photo, args.rounds, args.threads, args.device)
        found.contestants = [
            Contestant(
                REFERENCE, "mobile_sam", str(weights), missing=lacks(sys.executable, "mobile_sam", "torch")
            ),
            found._ultralytics(args.ultralytics, weights),
            found._samexporter(args.samexporter, weights),
            *(
                Contestant(
                    f"samlet ({name})", f"samlet-{name}", str(weights), missing=lacks(sys.executable, package)
                )
                for name, package in (("onnx", "onnxruntime"), ("openvino", "openvino"))
            ),
        ]
        if args.device != "cpu":
            found.contestants.append(Contestant("samlet (torch)", "samlet-torch", str(weights)))
        found.contestants.append(Contestant("samlet nano", "samlet-onnx", "nano"))
        return found

    def _ultralytics(self, python, weights):
        missing = (
            "no interpreter was given (--ultralytics)" if python is None else lacks(python, "ultralytics")
        )
        return Contestant("ultralytics (torch)", "ultralytics", str(weights), python or "", missing)

    def _samexporter(self, python, weights):
        folder = self.work / "samexporter"
        who = Contestant("samexporter's files (onnx)", "samexporter", str(folder))
        if all((folder / f"{part}.onnx").exists() for part in ("encoder", "decoder")):
            return who
        who.missing = (
            "no interpreter was given (--samexporter)" if python is None else lacks(python, "samexporter")
        )
        if not who.missing:
            folder.mkdir(exist_ok=True)
            command = [python, "-m", "benchmarks.samexporter_files", str(weights), str(folder)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
        return who

    def picture(self, width, height):
        """The photograph at a size, as JPEG."""
        path = self.work / f"{self.photo.stem}_{width}x{height}.jpg"
        if not path.exists():
            with Image.open(self.photo) as photo:
                photo.convert("RGB").resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
        return path

    def present(self, *names):
        """Those that are installed, all or only those named."""
        return [who for who in self.contestants if not who.missing and (not names or who.name in names)]

    def absent(self):
        """Rows for those that are not."""
        return [
            {"what": "-", "who": who.name, "value": None, "unit": "", "note": f"not measured: {who.missing}"}
            for who in self.contestants
            if who.missing
        ]


def environment():
    """What workers see: this tree, and nothing that asks the network."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(["src", ".", os.environ.get("PYTHONPATH", "")])}


def lacks(python, *packages):
    """Say which package an interpreter lacks, without importing it; "" if none."""
    code = "import sys, importlib.util as u; print(*[p for p in sys.argv[1:] if u.find_spec(p) is None])"
    if shutil.which(python) is None:
        return "its interpreter is not installed"
    done = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True)
    missing = done.stdout.split()
    return f"{missing[0]} is not installed" if missing else ""


class Worker:
    """A contestant at work."""

    def __init__(self, who, setting):
        self.who = who
        words = [
            who.python,
            "-m",
            "benchmarks.worker",
            who.kind,
            who.weights,
            str(setting.threads),
            setting.device,
        ]
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )

    def order(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.who.name} stopped while asked to {order}")
        return next(iter(json.loads(line).values()))

    def __enter__(self):
        return self

    def __exit__(self, *details):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Team:
    """Several contestants that take turns; one that fails is out, with a note."""

    def __init__(self, setting, *names):
        self.workers = [Worker(who, setting) for who in setting.present(*names)]
        self.rows = setting.absent() if not names else []

    def __enter__(self):
        self.all(do="load")
        return self

    def __exit__(self, *details):
        for worker in self.workers:
            worker.__exit__()

    def all(self, **order):
        """Give everybody one order; answers by worker."""
        answers = {}
        for worker in list(self.workers):
            try:
                answers[worker] = worker.order(**order)
            except (RuntimeError, BrokenPipeError) as error:
                self.workers.remove(worker)
                worker.__exit__()
                note = f"not measured: {error}"
                self.rows.append(
                    {"what": "-", "who": worker.who.name, "value": None, "unit": "", "note": note}
                )
        return answers

    def turns(self, what, rounds, *, before=None, scale=1.0, unit="ms", warm=True, **order):
        """Let them take turns, after one round that does not count, and keep median and spread."""
        times = {}
        for number in range(-1 if warm else 0, rounds):
            if before is not None:
                self.all(**before)
            for worker, seconds in self.all(**order).items():
                if number >= 0:
                    times.setdefault(worker, []).append(
                        seconds * 1000 * scale if unit == "ms" else seconds * scale
                    )
        self.rows += [row(what, worker.who.name, values, unit) for worker, values in times.items()]
        return {worker.who.name: values for worker, values in times.items()}

    def memory(self, what):
        self.rows += [
            row(what, worker.who.name, [mib], "MiB") for worker, mib in self.all(do="memory").items()
        ]


def row(what, who, values, unit, note=""):
    """Median and spread of some values."""
    return {
        "what": what,
        "who": who,
        "value": round(statistics.median(values), 3),
        "low": round(min(values), 3),
        "high": round(max(values), 3),
        "unit": unit,
        "rounds": len(values),
        "note": note,
    }


def encoder(setting):
    """Embedding one picture, from its pixels: a square one and a 16:9 one."""
    with Team(setting) as team:
        for what, size in (("embed 1024 x 1024", (1024, 1024)), ("embed 1280 x 720", (1280, 720))):
            team.all(do="picture", path=str(setting.picture(*size)))
            team.turns(what, setting.rounds, do="embed")
        team.memory("peak memory, embedding")
        return team.rows


def decoder(setting):
    """N clicks on an embedded picture, a mask of picture size each."""
    with Team(setting) as team:
        team.all(do="picture", path=str(setting.picture(1280, 720)))
        team.all(do="embed")
        for count in (1, 10, 64):
            team.turns(f"{count} clicks, each", setting.rounds, scale=1 / count, do="prompts", count=count)
        team.memory("peak memory, 64 clicks")
        return team.rows


def many(setting):
    """Hundreds of prompts: 100 and 256 clicks, MobileSAMv2's 320 boxes, the 1,024 clicks of a grid."""
    with Team(setting) as team:
        team.all(do="picture", path=str(setting.picture(1280, 720)))
        team.all(do="embed")
        for count in (100, 256):
            team.turns(f"{count} clicks, each", 1, warm=False, scale=1 / count, do="prompts", count=count)
        team.turns("320 boxes, each", 1, warm=False, scale=1 / 320, do="boxes", count=320)
        return team.rows


def thousand(setting):
    """1,024 clicks, and what they leave in memory."""
    with Team(setting) as team:
        team.all(do="picture", path=str(setting.picture(1280, 720)))
        team.all(do="embed")
        team.turns("1024 clicks, each", 1, warm=False, scale=1 / 1024, do="prompts", count=1024)
        team.memory("peak memory, 1,024 clicks")
        return team.rows


def sizes(setting):
    """From a JPEG file to one click's mask, pictures of 0.3 to 50 megapixels."""
    with Team(setting, REFERENCE, OURS, "samlet nano") as team:
        for mpixel in SIZES_MPIXEL:
            width = int((mpixel * 1e6 * 4 / 3) ** 0.5)  # at most so many pixels: samlet's limit is 50 million
            path = str(setting.picture(width, width * 3 // 4))
            team.turns(f"file of {mpixel} Mpixel to mask", min(3, setting.rounds), do="file", path=path)
        team.memory("peak memory, 50 Mpixel")
        return team.rows


def bare_graphs(setting):
    """Lay MobileSAM's encoder and decoder, one graph each, with their weights into a folder, as others export them."""
    from samlet.packed import pack_model
    from samlet.registry import resolve

    folder = setting.work / "runtime"
    folder.mkdir(exist_ok=True)
    packed = pack_model(resolve(setting.work / "mobile_sam.pt"), roles=["encoder", "decoder"])
    for graph in packed.values():
        (folder / f"{graph.name}.onnx").write_bytes(graph.onnx)
        (folder / graph.packed.name).write_bytes(graph.packed.read_bytes())
    return folder


def start(setting):
    """From the start of a process to a mask on the disk: caches of the system warm, everything else cold."""
    rows, times, peaks = setting.absent(), {}, {}
    photo = str(setting.picture(1280, 720))
    everybody = [*setting.present(), Contestant("ONNX Runtime alone", "runtime", str(bare_graphs(setting)))]
    for number in range(-1, setting.rounds):
        for who in everybody:
            words = [who.python, "-m", "benchmarks.start", who.kind, who.weights, str(setting.threads), photo]
            started = time.perf_counter()
            done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - started
            if done.returncode != 0:
                raise RuntimeError(f"{who.name} failed: {done.stderr[-300:]}")
            if number >= 0:
                times.setdefault(who.name, []).append(seconds)
                peaks.setdefault(who.name, []).append(float(done.stdout.split()[-1]))
    rows += [row("process start to mask file", name, values, "s") for name, values in times.items()]
    return rows + [row("peak memory, one click", name, values, "MiB") for name, values in peaks.items()]


def batch(setting):
    """64 clicks, decoded some at a time."""
    rows = []
    for count in (1, 4, 16, 64):
        variants = [(REFERENCE, f"mobile_sam@{count}"), (OURS, f"samlet-onnx@{count}")]
        known = {who.name: who for who in setting.present()}
        chosen = [
            Contestant(name, kind, known[name].weights, known[name].python)
            for name, kind in variants
            if name in known
        ]
        part = Setting(
            setting.work, setting.photo, setting.rounds, setting.threads, setting.device, contestants=chosen
        )
        with Team(part) as team:
            team.all(do="picture", path=str(setting.picture(1280, 720)))
            team.all(do="embed")
            what = f"64 clicks, {count} at a time, each"
            team.turns(what, min(3, setting.rounds), scale=1 / 64, do="prompts", count=64)
            team.memory(f"peak memory, {count} at a time")
            rows += team.rows
    return rows


def everything(setting):
    """SAM's everything mode: the grids of 16 and 32, records of the reference and of samlet."""
    rows = []
    for side in (16, 32):
        command = [sys.executable, "-m", "benchmarks.everything_and_reference", "--json", "--side", str(side)]
        command += ["--photo", str(setting.picture(1280, 720))]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
        names = {"reference": REFERENCE, "exact": "samlet (onnx), exact", "fast": OURS}
        for kind, found in json.loads(done.stdout.splitlines()[-1]).items():
            note = f"{len(found['boxes'])} masks"
            rows.append(row(f"everything, grid {side} x {side}", names[kind], [found["seconds"]], "s", note))
            rows.append(row(f"peak memory, grid {side} x {side}", names[kind], [found["peak_mib"]], "MiB"))
    return rows


def install(setting):
    """Megabytes that a package and all it declares take, without bytecode."""
    from benchmarks.install_size import megabytes

    rows = [row("install, MB", "samlet", [megabytes("samlet", sys.executable)], "MB")]
    for name, package, python in (
        ("segment-anything-py", "segment-anything-py", sys.executable),
        ("mobilesam-mirror", "mobilesam-mirror", sys.executable),
        ("samexporter", "samexporter", _python_of(setting, "samexporter")),
        ("ultralytics", "ultralytics", _python_of(setting, "ultralytics")),
    ):
        undeclared = UNDECLARED.get(package, ())
        if python and (found := megabytes(package, python, undeclared)):
            note = "with a CPU build of torch"
            if undeclared:
                note += f"; it declares nothing, and needs {', '.join(undeclared)}"
            rows.append(row("install, MB", name, [found], "MB", note))
    return rows


def _python_of(setting, kind):
    return next((who.python for who in setting.contestants if who.kind == kind and who.python), None)


PARTS = {
    "encoder": encoder,
    "decoder": decoder,
    "batch": batch,
    "many": many,
    "thousand": thousand,
    "everything": everything,
    "start": start,
    "sizes": sizes,
    "install": install,
}
