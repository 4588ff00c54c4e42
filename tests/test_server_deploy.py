"""Files that put the server into containers and services say what exists, and keep the rules of such files."""

import ast
import configparser
import json
import re
import shlex
import sys
import types
from pathlib import Path

import pytest
from PIL import Image as PILImage

from samlet.cli.main import _parser

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILES = ["Dockerfile", "huggingface/Dockerfile"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """Split a Dockerfile into instructions, comments left out and continued lines joined."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        found.append((word, rest.strip()))
    return found


def parsed_command(words: list[str]) -> None:
    """Check that `samlet` knows the words."""
    assert words[0].endswith("samlet")
    args = _parser().parse_args(words[1:])
    assert args.command == "serve"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_a_dockerfile_keeps_the_rules(name):
    steps = instructions(DEPLOY / name)
    known = {
        "FROM", "RUN", "COPY", "ENV", "LABEL", "USER", "WORKDIR", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD",
        "ENTRYPOINT",
    }  # fmt: skip
    assert {word for word, _ in steps} <= known
    assert steps[0][0] == "FROM"
    for word, rest in steps:
        if word == "FROM":  # a version, not whatever is newest
            assert re.fullmatch(r"\S+:[\w.-]*\d[\w.-]*( AS \w+)?", rest), rest
        if word == "RUN":
            assert "sudo" not in rest and "curl" not in rest and "chmod 777" not in rest
            assert "pip install" not in rest or "--no-cache-dir" in rest or "PIP_NO_CACHE_DIR=1" in str(steps)
        if word in ("CMD", "ENTRYPOINT"):
            parsed_command(json.loads(rest))
    users = [rest for word, rest in steps if word == "USER"]
    assert users and re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1])
    after_user = [word for word, _ in steps[[word for word, _ in steps].index("USER") :]]
    assert "RUN" not in after_user and "COPY" not in after_user


def test_the_dockerfile_copies_what_is_there_and_nothing_secret():
    steps = instructions(DEPLOY / "Dockerfile")
    ignored = (ROOT / ".dockerignore").read_text().split()
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            for source in sources:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, source
    assert ignored[0] == "*"
    assert sum(word == "FROM" for word, _ in steps) == 2
    health = next(rest for word, rest in steps if word == "HEALTHCHECK")
    code = json.loads(health[health.index("[") :])[2]
    ast.parse(code)
    assert "/health" in code


def test_the_image_installs_extras_that_exist():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for name in DOCKERFILES:
        for found in re.findall(r"\[([\w,]+)\]'", (DEPLOY / name).read_text("utf-8")):
            assert set(found.split(",")) <= set(extras)


def test_the_service_starts_what_exists_with_its_hardening():
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((DEPLOY / "samlet.service").read_text("utf-8"))
    service = unit["Service"]
    parsed_command(shlex.split(service["ExecStart"]))
    wanted = {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "CapabilityBoundingSet": "",
        "KillSignal": "SIGTERM",
    }
    assert {name: service[name] for name in wanted} == wanted
    assert "127.0.0.1" in service["ExecStart"]


def test_compose_runs_two_servers_over_one_valkey():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    services = found["services"]
    assert set(services) == {"one", "two", "valkey", "door"}
    for name in ("one", "two"):
        server = services[name]
        dockerfile = (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).resolve()
        steps = dict(instructions(dockerfile))
        parsed_command([*json.loads(steps["ENTRYPOINT"]), *server["command"]])
        assert server["read_only"] and server["cap_drop"] == ["ALL"] and "ports" not in server
        assert server["depends_on"]["valkey"]["condition"] == "service_healthy"
        assert ":?" in server["environment"]["SAMLET_TOKEN"]  # refuses to start without a token
        assert set(server["networks"]) == {"inside"}
    valkey = services["valkey"]
    assert "allkeys-lru" in valkey["command"] and "--maxmemory" in valkey["command"] and "ports" not in valkey
    assert services["door"]["ports"] == ["127.0.0.1:8000:8000"]
    assert (DEPLOY / "Caddyfile").exists() and found["networks"]["inside"]["internal"] is True
    for service in services.values():
        assert not service.get("privileged") and "latest" not in service["image"]


def test_the_space_says_where_it_listens():
    text = (DEPLOY / "huggingface" / "README.md").read_text("utf-8")
    front = dict(line.split(": ", 1) for line in text.split("---")[1].strip().splitlines())
    steps = instructions(DEPLOY / "huggingface" / "Dockerfile")
    assert front["sdk"] == "docker"
    assert dict(steps)["EXPOSE"] == front["app_port"]
    assert json.loads(dict(steps)["CMD"])[5] == front["app_port"]
    assert len(front["short_description"]) <= 60


@pytest.mark.parametrize(
    ("points", "box", "output", "mode"),
    [
        ("220,110 -40,200", "", "cutout", "RGBA"),
        ("", "0,10,490,500", "mask", "L"),
        ("220,110", "", "overlay", "RGB"),
        ("", "", "cutout", "RGB"),
    ],
)
def test_the_predictor_predicts(monkeypatch, sample, points, box, output, mode):
    class Cog(types.ModuleType):
        BasePredictor = object
        Path = Path

        @staticmethod
        def Input(default=None, description="", choices=None):
            assert description and (choices is None or default in choices)
            return default

    monkeypatch.setitem(sys.modules, "cog", Cog("cog"))
    names: dict = {"__name__": "predict"}
    exec(compile((DEPLOY / "replicate" / "predict.py").read_text("utf-8"), "predict.py", "exec"), names)
    predictor = names["Predictor"]()
    predictor.setup()
    result = predictor.predict(image=sample("astronaut"), points=points, box=box, output=output)
    with PILImage.open(result) as picture:
        assert picture.mode == mode
        assert output == "cutout" or picture.size == (512, 512)


def test_cog_names_the_predictor():
    text = (DEPLOY / "replicate" / "cog.yaml").read_text("utf-8")
    file_name, class_name = re.search(r"predict: (\S+):(\w+)", text).groups()
    tree = ast.parse((DEPLOY / "replicate" / file_name).read_text("utf-8"))
    assert class_name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
