"""Training FastSAM: assignment and losses by hand, views, an exact resume, and files that the front doors load."""

import importlib.util
import json
import math

import numpy as np
import pytest
from PIL import Image as PILImage

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None or importlib.util.find_spec("cv2") is None:
    pytest.skip("needs torch and OpenCV (samlet[train])", allow_module_level=True)

import torch

import samlet
from samlet.backends.onnx import OnnxBackend
from samlet.compat.fastsam import FastSAM
from samlet.compat.ultralytics import FastSAM as UltralyticsFastSAM
from samlet.errors import CheckpointError, InputError
from samlet.model import Model
from samlet.session import Session
from samlet.train.assignment import NOBODY, assign, pair_iou
from samlet.train.finished import write_all_instance
from samlet.train.instance_cache import CANVASES, canvas_of, read_cache
from samlet.train.instance_losses import (
    Answers,
    Gains,
    all_instance_loss,
    ciou,
    distribution_loss,
    in_boxes,
    mask_loss,
)
from samlet.train.instance_recall import instance_recall, mask_overlap
from samlet.train.instance_views import GREY, MOSAIC, STRIDE, WHOLE, ZOOMED, Album, Labels
from samlet.train.pictures import IGNORE, Picture
from samlet.train.recipes.all_instance import (
    AllInstanceTask,
    CachedLoader,
    PixelLoader,
    Place,
    Recipe,
    cached,
    network_of,
    orders_of,
    run,
    weight_of,
)

SMALL = ((96, 128), (128, 96), (128, 128))


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_the_aligned_places_answer():
    truth = boxes((0, 0, 16, 16))
    places = boxes((4, 4), (12, 12), (20, 20))
    said = boxes((0, 0, 16, 16), (0, 0, 16, 8), (0, 0, 16, 16))
    given = assign(torch.tensor([0.25, 0.25, 0.81]), said, places, truth)
    assert given.owner.tolist() == [0, 0, NOBODY]  # the third lies outside, however sure it is
    # t = sqrt(0.25) * IoU^6: 0.5 and 0.5 / 64, scaled so that the best is its IoU
    assert given.score.tolist() == pytest.approx([1.0, 1 / 64, 0.0], abs=1e-6)


def test_an_instance_takes_only_its_best_places():
    truth, places = boxes((0, 0, 32, 32)), boxes((4, 4), (12, 4), (20, 4))
    said = boxes((0, 0, 32, 24), (0, 0, 32, 32), (0, 0, 32, 28))
    given = assign(torch.full((3,), 0.5), said, places, truth, best=2)
    assert given.owner.tolist() == [NOBODY, 0, 0]
    assert given.score.tolist() == pytest.approx([0.0, 1.0, (28 / 32) ** 6])
    # with alpha alone the most certain place is best
    given = assign(torch.tensor([0.9, 0.1, 0.2]), said, places, truth, best=1, alpha=1.0, beta=0.0)
    assert given.owner.tolist() == [0, NOBODY, NOBODY]


def test_a_place_that_two_want_goes_to_the_one_it_fits():
    truths = boxes((0, 0, 16, 16), (0, 0, 32, 32))
    given = assign(
        torch.tensor([0.5, 0.5]), boxes((0, 0, 30, 30), (0, 0, 16, 14)), boxes((8, 8), (4, 4)), truths
    )
    assert given.owner.tolist() == [1, 0]
    assert given.score.tolist() == pytest.approx([900 / 1024, 14 / 16])


def test_places_answer_before_any_box_overlaps_and_nobody_without_instances():
    far = boxes((90, 90, 99, 99))
    given = assign(torch.tensor([0.1]), far, boxes((4, 4)), boxes((0, 0, 8, 8)))
    assert given.owner.tolist() == [0] and given.score.tolist() == [0.0]
    given = assign(torch.tensor([0.1]), far, boxes((4, 4)), torch.zeros(0, 4))
    assert given.owner.tolist() == [NOBODY] and given.score.tolist() == [0.0]


def test_ciou_by_hand():
    same = boxes((3, 4, 10, 20))
    assert ciou(same, same).tolist() == pytest.approx([1.0])
    # moved by 2: IoU 8 / 24, middles 2 apart, the hull's diagonal squared 36 + 16; the shapes are equal
    moved = ciou(boxes((0, 0, 4, 4)), boxes((2, 0, 6, 4)))
    assert moved.tolist() == pytest.approx([1 / 3 - 4 / 52])
    # turned: IoU 4 / 12, middles (2, 1) and (1, 2), hull 4 x 4
    v = 4 / math.pi**2 * (math.atan(0.5) - math.atan(2)) ** 2
    turned = ciou(boxes((0, 0, 4, 2)), boxes((0, 0, 2, 4)))
    assert turned.tolist() == pytest.approx([1 / 3 - 2 / 32 - v * v / (1 - 1 / 3 + v)])
    assert pair_iou(boxes((0, 0, 1, 1)), boxes((5, 5, 6, 6))).tolist() == [0.0]


def test_distribution_loss_by_hand():
    p = torch.tensor([1e-9, 0.75, 0.25, 1e-9]).log().expand(1, 4, 4)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert distribution_loss(p, torch.full((1, 4), 1.25)).tolist() == pytest.approx([entropy], rel=1e-5)
    even = torch.zeros(2, 4, 4)
    wanted = torch.tensor([[0.0, 0.5, 1.7, 2.9], [3.0, 9.0, -1.0, 2.0]])  # outside the bins: the nearest
    assert distribution_loss(even, wanted).tolist() == pytest.approx([math.log(4)] * 2)
    logits = torch.zeros(1, 4, 4, requires_grad=True)
    distribution_loss(logits, torch.full((1, 4), 9.0)).sum().backward()
    assert (logits.grad[0, :, 3] < -0.1).all() and (logits.grad[0, :, :3] > 0).any()


def test_mask_loss_counts_cells_of_the_box_about_which_something_is_known():
    inside = in_boxes(boxes((0, 0, 8, 4), (4, 4, 16, 16)), (4, 4))
    assert inside[0].nonzero().tolist() == [[0, 0], [0, 1]] and int(inside[1].sum()) == 9
    logits = torch.tensor([[[0.0, 2.0], [-50.0, 50.0]]])
    masks = torch.tensor([[[True, True], [True, False]]])
    counting = torch.tensor([[[True, True], [False, False]]])
    wanted = (math.log(2) + math.log1p(math.exp(-2))) / 2
    assert mask_loss(logits, masks, counting).tolist() == pytest.approx([wanted])
    assert mask_loss(logits, masks, counting & False).tolist() == [0.0]


def raw_answers(hw=(64, 64), reg_max=4, batch=1, seed=0):
    torch.manual_seed(seed)
    levels = [
        tuple(
            torch.randn(batch, channels, hw[0] // s, hw[1] // s, requires_grad=True)
            for channels in (4 * reg_max, 1, 32)
        )
        for s in (8, 16, 32)
    ]
    return levels, torch.randn(batch, 32, hw[0] // 4, hw[1] // 4, requires_grad=True)


def test_boxes_are_what_the_deployed_head_decodes():
    from samlet.nets.yolo_seg import Expectation, decode

    levels, protos = raw_answers((64, 96), batch=2)
    wanted = []
    for (sides, _, _), stride in zip(levels, (8, 16, 32), strict=True):
        cx, cy, w, h = decode(Expectation(4)(sides), stride).flatten(2).unbind(1)
        wanted.append(torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], -1))
    torch.testing.assert_close(Answers.of(levels, protos).boxes(), torch.cat(wanted, 1))


def labels_of(rows, *, hw=(64, 64), quality=None, masked=None, trust=1.0, unknown=None):
    found = np.array(rows, np.float32).reshape(-1, 4)
    grid = hw[0] // STRIDE, hw[1] // STRIDE
    masks = in_boxes(torch.from_numpy(found), grid).numpy()
    return Labels(
        found,
        masks,
        np.ones(len(found), np.float32) if quality is None else np.array(quality, np.float32),
        np.ones(len(found), np.bool_) if masked is None else np.array(masked),
        np.zeros(grid, np.bool_) if unknown is None else unknown,
        trust,
    )


def gradients(labels, **gains):
    levels, protos = raw_answers()
    losses = all_instance_loss(Answers.of(levels, protos), [labels], Gains(**gains))
    sum(losses[name] for name in ("box", "dfl", "score", "mask")).backward()
    return losses, [tensor.grad for tensor in (*levels[0], protos)]


def test_what_nobody_knows_teaches_nothing():
    unknown = np.zeros((16, 16), np.bool_)
    unknown[:, :8] = True
    _, (sides, score, coefficients, protos) = gradients(labels_of([], unknown=unknown), background=1.0)
    assert (score[0, 0, :, :4] == 0).all() and (score[0, 0, :, 4:] > 0).all()
    assert sides is None or not sides.any()
    assert coefficients is None or not coefficients.any()
    assert not protos.any()


def test_empty_places_cost_by_trust():
    full = gradients(labels_of([], trust=1.0), background=0.25)[1][1]
    none = gradients(labels_of([], trust=0.0), background=0.25)[1][1]
    half = gradients(labels_of([], trust=0.5), background=0.25)[1][1]
    torch.testing.assert_close(none, full * 0.25)
    torch.testing.assert_close(half, full * 0.625)


def test_a_box_without_a_mask_teaches_no_mask_and_counts_by_its_quality():
    box = [(8, 8, 40, 40)]
    losses, (_, _, coefficients, protos) = gradients(labels_of(box, masked=[False]))
    assert losses["mask"].item() == 0 and not protos.any()
    assert coefficients is None or not coefficients.any()
    whole, (_, _, _, protos) = gradients(labels_of(box))
    assert whole["mask"].item() > 0 and protos.any() and whole["box"].item() > 0
    answers = Answers.of(*raw_answers())
    asked = assign(
        answers.scores[0].detach().sigmoid(), answers.boxes()[0].detach(), answers.places, boxes(*box)
    )
    doubtful, certain = (
        all_instance_loss(
            answers, [labels_of(box, quality=[q], trust=0.0)], Gains(background=0.0, score=1.0)
        )["score"]
        for q in (0.25, 1.0)
    )
    logits = answers.scores[0, asked.owner == 0]
    wanted = asked.score[asked.owner == 0]
    for q, loss in ((0.25, doubtful), (1.0, certain)):
        each = torch.nn.functional.binary_cross_entropy_with_logits(logits, q * wanted, reduction="sum")
        assert loss.item() == pytest.approx(each.item() / max(1.0, (q * wanted.sum()).item()), rel=1e-5)


def test_only_so_many_masks_are_looked_at_and_all_sizes_of_them():
    rows = [(0, 0, 64 - 4 * i, 64 - 4 * i) for i in range(10)]
    few, every = (
        all_instance_loss(Answers.of(*raw_answers()), [labels_of(rows)], Gains(masks=n)) for n in (3, 24)
    )
    assert few["mask"].item() != every["mask"].item() and few["box"].item() == every["box"].item()


def picture(seed=0, hw=(96, 128), group="discs"):
    """Two bright boxes on dark noise, a strip of void at the bottom."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(hw, np.uint16)
    ids[16:56, 8 + 4 * seed : 56 + 4 * seed] = 1
    ids[40:80, 72:112] = 2
    ids[92:] = IGNORE
    pixels = rng.integers(0, 20, (*hw, 3), dtype=np.uint8)
    pixels[ids == 1] = (250, 210, 200)
    pixels[ids == 2] = (200, 230, 250)
    return Picture(f"{group}/{seed}", group, pixels, [ids])


@pytest.mark.parametrize("kind", [WHOLE, ZOOMED, MOSAIC])
def test_boxes_masks_and_pixels_of_a_view_agree(kind):
    album = Album([picture(seed) for seed in range(3)], {"discs": 0.5})
    seen = 0
    for seed in range(6):
        view = album.view(seed % 3, kind, (128, 160), np.random.default_rng(seed))
        labels = view.labels
        assert view.pixels.shape == (128, 160, 3) and labels.masks.shape[1:] == labels.unknown.shape == (
            32,
            40,
        )
        assert labels.masked.all() and (labels.quality == 1).all() and labels.trust == pytest.approx(0.5)
        for box, mask in zip(labels.boxes, labels.masks, strict=True):
            seen += 1
            ys, xs = np.nonzero(mask)
            own = STRIDE * np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert np.abs(own - box).max() <= STRIDE
            bright = view.pixels.max(2).astype(int)[STRIDE * ys + 2, STRIDE * xs + 2]
            assert np.median(bright) > 120
    assert seen >= 8


def test_a_whole_view_lies_in_the_middle_and_a_mosaic_has_four_pictures():
    album = Album([picture()], {})
    view = album.view(0, WHOLE, (128, 128), np.random.default_rng(3))
    assert (view.pixels[:16] == GREY).all() and (view.pixels[-16:] == GREY).all()
    assert view.labels.unknown[-5:-4].all() and not view.labels.unknown[:27].any()
    counts = [len(album.view(0, MOSAIC, (128, 128), np.random.default_rng(s)).labels.boxes) for s in range(6)]
    assert max(counts) > 2


def test_what_a_view_cuts_off_is_unknown():
    ids = np.zeros((64, 64), np.uint16)
    ids[:, :60] = 1
    one = Picture("a/a", "a", np.zeros((64, 64, 3), np.uint8), [ids])
    cut = []
    for seed in range(40):
        labels = Album([one], {}).view(0, ZOOMED, (64, 64), np.random.default_rng(seed)).labels
        cut.append((len(labels.boxes), bool(labels.unknown.any())))
    assert set(cut) == {(1, False), (0, True)}


def test_found_boxes_are_added_where_nothing_is_labelled():
    unknown = np.zeros((16, 16), np.bool_)
    unknown[12:] = True
    labels = labels_of([(0, 0, 32, 32)], unknown=unknown)
    found = np.array([(0, 0, 30, 30), (36, 0, 60, 40), (0, 50, 60, 64), (40, 4, 44, 40)], np.float32)
    more = labels.with_boxes(found, np.array([0.9, 0.8, 0.7, 0.6], np.float32))
    assert more.boxes.tolist() == [[0, 0, 32, 32], [36, 0, 60, 40]]  # known, new, in the unknown, a sliver
    assert more.quality.tolist() == pytest.approx([1, 0.8]) and more.masked.tolist() == [True, False]
    assert more.masks.shape == (2, 16, 16) and not more.masks[1].any()
    assert len(labels_of([]).with_boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)).boxes) == 0


def test_recall_by_hand():
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, :2], masks[1, 2:, :2] = True, True
    unknown = np.zeros((4, 4), np.bool_)
    unknown[3] = True
    labels = labels_of([(0, 0, 16, 8), (0, 8, 16, 16)], hw=(16, 16), unknown=unknown)
    assert mask_overlap(masks, labels).tolist() == [[1, 0], [0, 0.5]]  # the last row counts nowhere
    levels, protos = raw_answers()
    silent = labels_of([(0, 0, 32, 32)], masked=[False])
    figures = instance_recall([(np.zeros(1), silent)], lambda _: Answers.of(levels, protos))
    assert figures == {"AR@10": 0, "AR@100": 0, "box_AR@10": 0, "box_AR@100": 0}


@pytest.fixture
def small(monkeypatch):
    for kind in CANVASES:
        monkeypatch.setitem(CANVASES, kind, SMALL)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in ("images", "masks"):
        (root / "voc2007_seg_train" / name).mkdir(parents=True)
    for i in range(6):  # the first and the sixth are held out
        one = picture(i % 3)
        PILImage.fromarray(one.pixels).save(root / "voc2007_seg_train" / "images" / f"{i}.png")
        ids = np.where(one.regions[0] == IGNORE, 255, one.regions[0]).astype(np.uint8)
        PILImage.fromarray(ids).save(root / "voc2007_seg_train" / "masks" / f"{i}.png")
    return root


def test_a_resumed_run_is_the_unbroken_one(data, tmp_path, small):
    from safetensors.numpy import load_file

    recipe = Recipe(steps=4, batch=2, views=8, warmup=1, precision="fp32")
    cache = tmp_path / "cache"
    path = run(recipe, Place(data, tmp_path / "whole", cache))
    assert run(recipe, Place(data, tmp_path / "broken", cache), stop=2) is None
    assert (
        run(recipe, Place(data, tmp_path / "broken", cache), resume=True) == tmp_path / "broken" / path.name
    )
    ours, theirs = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "broken"))
    assert ours.keys() == theirs.keys() and len(ours) > 500
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours)
    assert path.read_bytes() == (tmp_path / "broken" / path.name).read_bytes()
    encoder = [k for k in ours if k.startswith("model.encoder.")]
    assert encoder and all(
        np.array_equal(ours[k], ours["average" + k.removeprefix("model")]) for k in encoder
    )
    rows = [json.loads(line) for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 2, 4, 4] and "AR@100" in rows[-1]["held_out"]
    with pytest.raises(InputError, match="another"):
        cached(Recipe(steps=4, views=9), Place(data, tmp_path / "out", cache))


def test_two_pictures_are_learnt_and_the_file_opens_every_door(data, tmp_path, small):
    recipe = Recipe(steps=60, batch=4, views=12, warmup=5, lr=4e-3, average=0.9)
    path = run(recipe, Place(data, tmp_path, threads=1))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    figures = rows[-1]["held_out"]
    assert figures["AR@10"] > 0.5 and figures["box_AR@10"] > 0.5
    card = samlet.load(path, settings={"conf": 0.05}).card
    assert card.family == "fastsam" and card.side == 512
    model = Model(Session(card.resized(128), OnnxBackend()))  # it has seen these pictures at no other size
    one = picture(0)
    view = model.embed(one.pixels)
    found = model.everything(view)
    for key, (x, y) in ((1, (30, 36)), (2, (92, 60))):
        truth = one.regions[0] == key
        ys, xs = np.nonzero(truth)
        box = [int(n) for n in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)]
        answers = [model.segment(view, boxes=box).masks[0], *found.masks[:5]]
        ious = [(mask & truth).sum() / (mask | truth).sum() for mask in answers]
        least = 0.8 if key == 1 else 0.35  # sixty steps are enough for one of the two
        assert ious[0] > least and max(ious[1:]) > least
        assert model.segment(view, points=[[x, y]]).masks[0, y, x]
    assert len(FastSAM(path)(one.pixels, imgsz=128, conf=0.05)[0].masks.data) >= 2
    assert len(UltralyticsFastSAM(path)(one.pixels[..., ::-1], imgsz=128, conf=0.05, verbose=False)[0]) >= 2


@torch.no_grad()
def test_the_committed_graph_computes_what_torch_does(tmp_path):
    network = network_of(Recipe()).eval()
    for branch in network.head.cv3:
        torch.nn.init.zeros_(branch[2].bias)
    path = write_all_instance(network, tmp_path)
    photo = np.random.default_rng(0).integers(0, 255, (96, 120, 3), dtype=np.uint8)
    onnx, torch_ = (samlet.load(path, backend=name).embed(photo).arrays for name in ("onnx", "torch"))
    assert onnx["protos"].shape == (32, 104, 128) and len(onnx["candidates"]) > 1000
    np.testing.assert_allclose(onnx["protos"], torch_["protos"], atol=2e-3 * onnx["protos"].std())
    ours, theirs = (torch.from_numpy(np.array(each["candidates"])) for each in (onnx, torch_))
    assert len(ours) == len(theirs)  # in order of their scores, where neighbours may have changed places
    apart = torch.cdist(ours, theirs, compute_mode="donot_use_mm_for_euclid_dist")
    assert float(apart.amin(1).amax()) < 0.05


def test_fastsams_own_network_learns_from_pixels_and_keeps_the_official_layout(data, tmp_path, small):
    recipe = Recipe(network="s", steps=1, batch=2, warmup=1, precision="fp32")
    path = run(recipe, Place(data, tmp_path))
    assert path.name == "model.pt" and (tmp_path / "samples.png").exists()
    arrays = torch.load(path, weights_only=True)
    assert len(arrays) == 417 and arrays["model.22.dfl.conv.weight"].shape == (1, 16, 1, 1)
    model = FastSAM(path)
    assert model.model.card.graphs["network"] == "yolo_seg_s_rm16.onnx"
    assert model(picture().pixels, imgsz=128, conf=0.001)[0].orig_img.shape == (96, 128, 3)


def test_batches_depend_on_seed_and_step_alone(data, tmp_path, small):
    album = Album([picture(seed) for seed in range(3)], {})
    recipe = Recipe(steps=1, batch=3, views=8)
    loader = cached(recipe, Place(data, tmp_path))
    for made in (
        lambda: PixelLoader(album, album, seed=3, batch=2),
        lambda: CachedLoader(loader.shelves, loader.dev, seed=3, batch=3),
    ):
        first, again, other = made().make(7, 0), made().make(7, 0), made().make(8, 0)
        assert np.array_equal(first.inputs, again.inputs)
        assert all(np.array_equal(a.boxes, b.boxes) for a, b in zip(first.labels, again.labels, strict=True))
        assert first.inputs.shape != other.inputs.shape or not np.array_equal(first.inputs, other.inputs)


def test_views_are_chosen_once_each_and_by_weight():
    group = "voc2007_seg_train"
    album = Album([picture(0, group=group), picture(1, group="cwfid")] * 30, {})
    orders = orders_of(album, views=60, seed=1)
    assert orders == orders_of(album, views=60, seed=1) and len({(o.index, o.kind) for o in orders}) == 60
    ours = sum(album.pictures[o.index].group == group for o in orders)
    assert ours > 38 and weight_of(group) > weight_of("cwfid")
    assert len(orders_of(album, views=10**6, seed=1)) == 180
    assert [canvas_of(WHOLE, hw) for hw in ((96, 128), (128, 96), (120, 128))] == list(CANVASES[WHOLE])


def test_bad_numbers_and_foreign_files_are_one_sentence(data, tmp_path, small):
    with pytest.raises(InputError, match="nano, s, x"):
        network_of(Recipe(network="m"))
    with pytest.raises(InputError, match="expected folders"):
        run(Recipe(steps=1), Place(tmp_path / "nothing", tmp_path / "out"))
    with pytest.raises(InputError, match="finished cache"):
        read_cache(tmp_path, digest="")
    network = network_of(Recipe())
    network.head.cv2[0][2].weight.data.fill_(1e6)
    with pytest.raises(CheckpointError, match="diverged"):
        write_all_instance(network, tmp_path)
    task = AllInstanceTask(Recipe(batch=5), network_of(Recipe()), torch.device("cpu"), None)
    assert task.size_words == "--batch (now 5)" and task.sheet() is None
