"""A run as files: what they compute, what is refused, and the page in a browser."""

import http.client
import json
import shutil
import socket
import struct
import threading
from types import SimpleNamespace

import jax
import numpy as np
import onnxruntime
import pytest
import tifffile
from PIL import Image

from infogan_jax import Config, Trained, UserError, build_model
from infogan_jax.apps import export, onnx_models
from infogan_jax.apps.model_card import model_card
from infogan_jax.apps.model_json import describe
from infogan_jax.apps.serve import is_loopback, make_server
from infogan_jax.core.losses import GAN_LOSSES
from infogan_jax.core.models import ARCHITECTURES
from infogan_jax.reporting import markup
from infogan_jax.run.checkpoints import Checkpoints
from infogan_jax.run.directory import Run
from tests.conftest import run_in, run_in_browser

QUICK = ("mnist_tiny", "residual")  # to compile, among the architectures


def effect(column, value, code, size, q):
    """A row of `treatments`."""
    row = {"column": column, "value": value, "control": "DMSO", "code": code}
    row |= {"effect": size, "low": -0.5, "high": 0.5, "in_deviations": 0.1, "p": q}
    row |= {"q": q, "plates": 2, "plates_that_agree": 2}
    return row | {"wells": 4, "control_wells": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A work directory with a checkpoint of networks that make lively pictures."""
    workdir = tmp_path_factory.mktemp("run") / "digits"
    config = Config(architecture="mnist_tiny", steps=10, group_by="patient")
    run = run_in(workdir, config, class_names=[str(k) for k in range(10)])
    state = run.model.init(jax.random.key(0))
    params = jax.tree.map(lambda x: 25 * x if x.ndim > 1 else x, state.ema["params"])
    state = state.replace(ema=state.ema | {"params": params})
    run.info.with_environment().write(workdir / "config.json")
    checkpoints = Checkpoints(workdir, 1)
    checkpoints.save(10, state)
    checkpoints.close()
    found = {
        "step": 0,
        "images": 100,
        "clustering": {
            "cat": {
                **{"accuracy": 0.5, "purity": 0.5, "nmi": 0.5, "ari": 0.5},
                "code_to_class": [*range(1, 10), None],
                "table": [[1] * 10] * 10,
                "warnings": [],
            }
        },
        "traversal": {
            "uniform1": {"name": "slant", "r2": {"slant": 0.91234}, "slope": {}}
        },
        "treatments": {
            "names": ["cat 3", "uniform1"],
            "rows": [
                effect("drug", "X", "cat 3", 0.1, None),
                effect("drug", "trend", "uniform1", -0.4, 0.01),
                effect("patient", "Jane", "cat 3", 0.2, 0.02),
                effect("drug", "Y", "cat 3", None, None),
            ],
            "wells": {},
            "notes": [],
        },
    }
    (workdir / "evaluation.json").write_text(json.dumps(found))
    return workdir


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "page"
    assert export.export(Run.open(run), out) == out
    return out


def run_onnx(content, values):
    """What onnxruntime makes of it."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.asarray(values)})[0]


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.long)
        for name in sorted(ARCHITECTURES)
    ],
)
def test_every_architecture_exports(architecture):
    grows = not architecture.startswith("mnist")
    shape = (16, 16, 2) if grows else (28, 28, 1)
    codes = "cat:3,gaussian:1:sigma=learned,bernoulli:2,noise:5"
    channels = 4 if grows else 0
    config = Config(architecture=architecture, base_channels=channels, codes=codes)
    model = build_model(config, shape)
    state = model.init(jax.random.key(0))
    latents = jax.random.normal(jax.random.key(1), (3, model.latent_dim))
    images = jax.random.uniform(jax.random.key(2), (3, *shape))
    for function, values in (
        (lambda x: model.generate(state, x), latents),
        (lambda x: model.recognize(state, x), images),
    ):
        content = onnx_models.to_onnx(function, [values.shape[1:]], "network")
        for part in (values, values[:1]):
            found = run_onnx(content, part)
            np.testing.assert_allclose(found, function(part), atol=1e-5)


@pytest.mark.long
def test_a_run_in_bfloat16_exports_in_float32(tmp_path):
    config = Config(architecture="mnist_tiny", dtype="bfloat16")
    run = run_in(tmp_path / "run", config)
    checkpoints = Checkpoints(tmp_path / "run", 1)
    checkpoints.save(1, run.model.init(jax.random.key(0)))
    checkpoints.close()
    out = export.export(run, tmp_path / "out")
    assert max(json.loads((out / "model.json").read_text())["parity"].values()) < 1e-4


@pytest.mark.parametrize("gan_loss", sorted(GAN_LOSSES))
def test_every_objective_is_described(gan_loss, tmp_path):
    """The networks are the same whatever they were trained by; the config is not."""
    config = Config(gan_loss=gan_loss, codes="cat:3,uniform:1,noise:5")
    run = run_in(tmp_path, config)
    trained = Trained(run.model, SimpleNamespace(step=0, frequencies={}))
    about = describe(run, run.members[0], trained)
    assert [code["dim"] for code in about["codes"]] == [3, 1, 5]
    assert about["codes"][0]["labels"] == [None] * 3


def test_the_files_compute_what_jax_does(run, exported):
    about = json.loads((exported / "model.json").read_text())
    _, trained = Run.open(run).load_trained()
    latents = jax.random.uniform(jax.random.key(3), (5, about["latent_dim"]))
    expected = trained.generate(latents)
    found = run_onnx((exported / "generator.onnx").read_bytes(), latents)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    loaded = jax.export.deserialize((exported / "generator.stablehlo").read_bytes())
    np.testing.assert_allclose(loaded.call(latents), expected, atol=1e-5)
    assert set(loaded.platforms) == {"cpu", "cuda", "tpu"}
    q = run_onnx((exported / "recognizer.onnx").read_bytes(), expected)
    np.testing.assert_allclose(q, trained.recognize(expected), atol=1e-4)
    assert 0 <= max(about["parity"].values()) <= 1e-4
    for name, file in about["files"].items():
        assert (exported / name).stat().st_size == file["bytes"]


def test_what_is_said_of_the_codes(run, exported):
    about = json.loads((exported / "model.json").read_text())
    cat, slant, width, noise = about["codes"]
    assert (cat["kind"], cat["dim"], noise["n_params"]) == ("categorical", 10, 0)
    assert [code["offset"] for code in about["codes"]] == [0, 10, 11, 12]
    assert (slant["trained"], width["allowed"]) == ([-1, 1], [-2, 2])
    assert cat["labels"] == [*"123456789", None]
    assert (slant["meaning"], slant["r2"], "meaning" in width) == (
        "slant",
        0.912,
        False,
    )
    assert about["metrics"] == {"accuracy of cat": 0.5}
    surest, other = about["treatments"]  # groups may be patients; one has no effect
    assert (surest["code"], surest["category"], surest["q"]) == ("uniform1", None, 0.01)
    assert (other["code"], other["category"], other["value"]) == ("cat", 3, "X")
    assert len(list((exported / "thumbnails").glob("*.png"))) == 10
    for file in ("index.html", "icon.svg"):
        assert (exported / file).exists()
    assert "://" not in (exported / "index.html").read_text()


def test_the_model_card_says_what_the_export_is(exported):
    card = (exported / "README.md").read_text()
    about = json.loads((exported / "model.json").read_text())
    assert card.startswith(
        '---\ntitle: "digits"\nsdk: static\nlibrary_name: infogan_jax'
    )
    assert "| data | `mnist_5k`, 28 x 28 pixels, grey |" in card
    assert "| steps, seed | 0 of 10, seed 0 |" in card
    assert "--architecture=mnist_tiny" in card
    assert f"differ by {max(about['parity'].values()):.1e} at most" in card
    assert "`cat`: categorical, 10 numbers, H(c) = 2.30 nats" in card


def said_of(run):
    """model.json and the model card of a run without a checkpoint."""
    trained = Trained(run.model, SimpleNamespace(step=0, frequencies={}))
    about = describe(run, run.members[0], trained)
    about |= {"name": "cells", "seed": 0, "weights": "float32"}
    about |= {"parity": {"generator": 0.0}}
    return about, model_card(run, run.members[0], about)


def test_a_model_card_has_no_path_and_no_value_of_a_table(tmp_path):
    config = Config(
        dataset="folder:/secret/cells",
        metadata="/secret/patients.csv",
        file_pattern="{id}_Jane.tif",
        normalise_by="patient:name=Jane",
        download_url="file:///secret",
    )
    run = run_in(tmp_path / "run", config, class_names=["sick", "well"])
    row = {"nmi": 0.9, "nmi_by_chance": 0.1, "auc": 1.0, "auc_by_chance": 0.6}
    row |= {"code": "cat", "value": "Jane Roe", "units": 9}
    (tmp_path / "run" / "evaluation.json").write_text(
        json.dumps(
            {"step": 0, "images": 9, "metadata": {"patient": row, "warnings": []}}
        )
    )
    _, card = said_of(run)
    assert "| data | `a folder`" in card
    assert not any(word in card for word in ("secret", "Jane", "folder:cells"))


def test_groups_that_are_labels_are_left_out(tmp_path):
    config = Config(
        dataset="folder:cells",
        label_by="patient",
        group_by="Metadata_Patient",
        compare="patient=Jane",
        codes="cat:2",
    )
    run = run_in(tmp_path / "run", config, class_names=["Jane", "Joe"])
    matched = {"accuracy": 0.5, "purity": 0.5, "nmi": 0.5, "ari": 0.5}
    matched |= {"code_to_class": [0, 1], "table": [[1] * 2] * 2, "warnings": []}
    separated = {"auc": 0.9, "code": "cat 0", "table": {}, "examples": {}}
    found = {"step": 0, "images": 9, "clustering": {"cat": matched}}
    found["code_auc"] = {"Jane": separated}
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(found))
    about, card = said_of(run)
    assert about["codes"][0]["labels"] == [None, None]
    for text in (json.dumps(about), card):
        assert "Jane" not in text and "Joe" not in text


def test_half_the_bytes_and_the_same_pictures(run, exported, tmp_path, logged):
    out = export.export(Run.open(run), tmp_path / "half", weights="float16")
    assert "differ by" in logged()
    narrow, wide = ((x / "generator.onnx").read_bytes() for x in (out, exported))
    assert len(narrow) < 0.8 * len(wide)  # most of so small a file is its graph
    dim = json.loads((out / "model.json").read_text())["latent_dim"]
    latents = jax.random.uniform(jax.random.key(4), (5, dim))
    a, b = run_onnx(narrow, latents), run_onnx(wide, latents)
    np.testing.assert_allclose(a, b, atol=5e-3)  # 2^-11 of each weight


def test_an_export_that_differs_is_refused(monkeypatch, run, tmp_path):
    monkeypatch.setattr(onnx_models, "_MAX_DIFFERENCE", 0.0)
    with pytest.raises(UserError, match=r"differs from JAX by .* nothing usable"):
        export.export(Run.open(run), tmp_path / "out")
    assert not (tmp_path / "out" / "model.json").exists()


def test_an_export_is_made_anew_when_it_is_old(run, exported, tmp_path):
    assert export.is_current(exported, Run.open(run))
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    about = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(about | {"digest": "another"}))
    assert not export.is_current(copy, Run.open(run))
    assert export.export(Run.open(run), copy) == copy
    assert export.is_current(copy, Run.open(run))
    # New measures are news as well; those of another step are not this one's
    evaluation = run / "evaluation.json"
    before = evaluation.read_text()
    for change in ({"clustering": {}}, {"step": 7}):
        evaluation.write_text(json.dumps(json.loads(before) | change))
        assert not export.is_current(copy, Run.open(run))
    evaluation.write_text(before)
    assert export.is_current(copy, Run.open(run))


def test_mistakes_of_exporting_are_one_line(run, command, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    (other / "thumbnails").mkdir()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text('{"kind": "an InfoGAN"}')
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(run / "config.json", empty)
    here = f"--workdir={run}"
    for flags, told in (
        ([here, f"--output={other}"], "holds other things"),
        ([here, f"--output={other / 'thesis.txt'}"], "holds other things"),
        ([here, "--output=/proc/page"], "cannot be written"),
        ([here, "--weights=int8"], "expected one of ['float32', 'float16']"),
        ([here, "--member=7"], "--member=7: expected one of [0]"),
        ([f"--workdir={tmp_path / 'none'}"], "train there first"),
        ([f"--workdir={damaged}"], "damaged"),
        ([f"--workdir={empty}"], "has no checkpoint yet"),
    ):
        code, _, error = command("--mode=export", *flags)
        assert (code, error.count("\n")) == (2, 1), error
        assert told in error
    assert (other / "thesis.txt").read_text() == "mine"


def test_latents_of_the_page_become_pictures(run, exported, command, tmp_path):
    about = json.loads((exported / "model.json").read_text())
    rows = np.random.default_rng(0).uniform(-1, 1, (3, about["latent_dim"]))
    good = {
        "format": "infogan_jax latents 1",
        "digest": about["digest"],
        "latents": rows.tolist(),
    }
    path, out = tmp_path / "latents.json", tmp_path / "out.npy"
    here = ["--mode=sample", f"--workdir={run}", f"--latents_file={path}"]
    path.write_text(json.dumps(good))
    assert command(*here, f"--output={out}")[0] == 0
    _, trained = Run.open(run).load_trained()
    expected = trained.generate(rows.astype(np.float32))
    np.testing.assert_allclose(np.load(out), expected, atol=1e-5)
    for wrong, told in (
        (good | {"digest": "0123"}, "is of the network 0123"),
        (good | {"format": "other"}, "expected format"),
        (good | {"latents": [[1, 2]]}, "expected rows of 74 numbers"),
        (good | {"latents": [[1e999] * 74]}, "finite"),
        (good | {"latents": [["x"] * 74]}, "a file that the explorer saved"),
        (good | {"latents": [[10**400] * 74]}, "a file that the explorer saved"),
        ([], "expected format"),
    ):
        path.write_text(json.dumps(wrong))
        code, _, error = command(*here, f"--output={tmp_path / 'no.npy'}")
        assert (code, error.count("\n")) == (2, 1), error
        assert told in error
    path.write_text("[" * 100_000)
    assert command(*here, f"--output={tmp_path / 'no.npy'}")[0] == 2
    path.unlink()
    code, _, error = command(*here, f"--output={tmp_path / 'no.npy'}")
    assert (code, "No such file" in error) == (2, True)


@pytest.fixture(scope="module")
def server(exported):
    with make_server(exported, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def ask(server, path, method="GET", host=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    headers = (headers or {}) | ({"Host": host} if host else {})
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


def test_the_server_gives_the_files_of_its_folder(server, exported):
    status, headers, content = ask(server, "/")
    assert (status, content) == (200, (exported / "index.html").read_bytes())
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-cache"
    (wasm,) = (exported / "assets").glob("*.wasm")
    status, headers, content = ask(server, f"/assets/{wasm.name}", "HEAD")
    assert (status, content) == (200, b"")
    assert headers["Content-Type"] == "application/wasm"
    assert "immutable" in headers["Cache-Control"]
    status, headers, _ = ask(server, "/assets/none.js")
    assert (status, headers["Cache-Control"]) == (404, "no-cache")
    # Another run may have had this port, with newer files
    later = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    assert ask(server, "/model.json", headers=later)[0] == 200
    assert ask(server, "/model.json?x=1")[1]["Content-Type"] == "application/json"


def test_the_server_gives_nothing_else(server, exported, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (exported / "link.txt").symlink_to(secret)
    for path in (
        *("/../secret.txt", "/%2e%2e/secret.txt", f"/..%2f..{secret}", str(secret)),
        *("/link.txt", "/assets/", "/assets", "/none", "//etc/passwd", "/\0"),
    ):
        status, _, content = ask(server, path.replace("\0", "%00"))
        assert status in (400, 404), path
        assert b"secret" not in content
    assert ask(server, "/", "POST")[0] == 501
    (exported / "link.txt").unlink()


def test_the_server_knows_its_own_names_only(server):
    for host in ("localhost:80", "127.0.0.1", "[::1]:8000", "127.3.2.1"):
        assert ask(server, "/model.json", host=host)[0] == 200, host
    for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1", "@", "[::"):
        assert ask(server, "/model.json", host=host)[0] in (400, 403), host
    assert not is_loopback("0.0.0.0")


def test_what_is_no_http_is_answered_all_the_same(server, capfd):
    with socket.create_connection(("127.0.0.1", server.server_port)) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")  # as TLS begins
        assert b"400" in raw.recv(1000)
    assert "Traceback" not in capfd.readouterr().err


def test_a_client_that_goes_away_is_no_news(server, capfd):
    with socket.create_connection(("127.0.0.1", server.server_port)) as raw:
        # To be reset at once when it is closed
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.sendall(b"GET /model.json HTTP/1.1\r\n")
    assert ask(server, "/model.json")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_another_way_to_write_this_machine(exported):
    with make_server(exported, "127.1", 0) as server:
        assert server.is_local


def test_a_server_on_ipv6(exported):
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("needs IPv6")
    with make_server(exported, "::1", 0) as server:
        assert server.is_local and server.server_port


def test_ports_that_cannot_be(server, exported):
    with pytest.raises(UserError, match=r"in use.*--port=0 for any"):
        make_server(exported, "127.0.0.1", server.server_port)
    for host in ("", "a\0b", "\u00e4" * 99):
        with pytest.raises(UserError, match="--host="):
            make_server(exported, host, 0)
    with pytest.raises(UserError, match="expected 0 to 65535"):
        make_server(exported, "127.0.0.1", 70000)
    with pytest.raises(UserError, match=r"--host=203\.0\.113\.1"):
        make_server(exported, "203.0.113.1", 0)


@pytest.mark.long
def test_a_click_sorts_a_table_of_the_report(tmp_path):
    rows = [("a", "10"), ("b", "\u22121.5"), ("c", "9")]
    body = markup.table(["code", "effect"], rows)
    page = tmp_path / "report.html"
    page.write_text(markup.PAGE.format(title="", body=body), encoding="utf-8")
    run_in_browser("report", page.as_uri(), tmp_path)


@pytest.mark.long
def test_the_page_in_a_browser(server, run, command, tmp_path):
    digit = Image.new("L", (60, 40))
    digit.paste(255, (25, 5, 33, 35))
    digit.save(tmp_path / "digit.png")
    Image.new("L", (10_000, 5_000)).save(tmp_path / "huge.png")
    (tmp_path / "text.png").write_text("words")
    (tmp_path / "broken.tif").write_bytes(b"II*\0nonsense")
    pixels = np.arange(2 * 9 * 9, dtype=np.uint16).reshape(2, 9, 9)
    tifffile.imwrite(tmp_path / "cells.tif", pixels, photometric="minisblack")
    url = f"http://127.0.0.1:{server.server_port}/"
    run_in_browser("page", url, tmp_path)
    # What was on the canvas is what JAX makes of the latents that were saved.
    out = tmp_path / "out.npy"
    flags = [f"--latents_file={tmp_path / 'latents.json'}", f"--output={out}"]
    assert command("--mode=sample", f"--workdir={run}", *flags)[0] == 0
    shown = np.array(json.loads((tmp_path / "canvas.json").read_text()))
    grey = shown.reshape(28, 28, 4)[..., 0]
    np.testing.assert_allclose(grey, 255 * np.load(out)[0, ..., 0], atol=2)
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (252, 252)  # nine times 28
        small = np.asarray(picture.convert("L"))[4::9, 4::9]
    np.testing.assert_array_equal(small, grey)
    with Image.open(tmp_path / "moving.gif") as gif:
        assert gif.n_frames == 2 * 48 - 2
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 10 * (28 * 2 + 2) - 2
