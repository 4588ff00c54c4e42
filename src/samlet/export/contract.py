"""SAM's ONNX contract: the names, shapes and arithmetic that programs outside samlet count on.

Encoder: a picture in, `image_embeddings` (1, 256, h, w) out. Decoder: SAM's six inputs (`image_embeddings`,
`point_coords`, `point_labels`, `mask_input`, `has_mask_input`, `orig_im_size`), and `masks` (logits at the picture's
size), `iou_predictions`, `low_res_masks` out. Clients scale a picture and its prompts to a frame whose longest side is
1,024 pixels; a model with a smaller canvas, such as nano, shrinks both inside its graphs.
"""

from dataclasses import dataclass
from typing import Any

from samlet.card import Card
from samlet.errors import InputError
from samlet.export.assembly import Assembly, append, prepend

INPUTS = (
    "image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size",
)  # fmt: skip
"""Of SAM's decoder, in SAM's order."""

_HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
_RESIZE = 'Resize <mode = "{}", coordinate_transformation_mode = "half_pixel">'


@dataclass(frozen=True, slots=True)
class Contract:
    """What the clients of an exported model count on.

    Attributes:
        frame: Longest side of the picture that clients scale to, in pixels.
        preprocess: Whether the encoder takes RGB 0 to 255 as (H, W, 3) float32 and does the rest itself.
        single: Whether there is one mask a prompt, chosen by SAM's rule: the best of three after a single click,
            token 0 otherwise. Without it all four tokens are given, as by SAM's own export.
        whole_sizes: Whether `orig_im_size` is int32 instead of float32, as TensorRT wants it.
    """

    frame: int
    preprocess: bool = False
    single: bool = False
    whole_sizes: bool = False


def check(card: Card, contract: Contract) -> None:
    """Refuse a contract that a model cannot keep.

    Raises:
        InputError: The frame is not a whole multiple of the model's canvas.
    """
    if contract.frame < card.side or contract.frame % card.side:
        raise InputError(
            f"expected a frame that is a multiple of the {card.side} pixels of {card.name}, got {contract.frame}; "
            f"choose {card.side} or {2 * card.side}"
        )


def encoder(assembly: Assembly, card: Card, contract: Contract) -> None:
    """Give an encoder the input that clients feed, in place.

    Without preprocessing it stays (1, 3, H, W), normalised, on the model's own canvas.
    """
    name_grid(assembly.model.graph.output)
    if contract.preprocess:
        prepend(assembly, _preprocessing(card, contract.frame), replaces={"image": "before_image"})


def decoder(assembly: Assembly, card: Card, contract: Contract) -> None:
    """Turn samlet's decoder, which gives four tokens on the low-res grid, into SAM's, in place."""
    shrink = contract.frame // card.side
    if shrink > 1:
        prepend(assembly, _coordinates(shrink), replaces={"point_coords": "before_coords"})
    prepend(assembly, _HINTS, replaces={"mask_input": "before_mask", "has_mask_input": "before_has"})
    size = "int32" if contract.whole_sizes else "float"
    text = _postprocessing(contract.frame, _SINGLE if contract.single else _ALL, size, _cut(contract))
    append(assembly, text, renames={"iou_predictions": "core_iou", "low_res_masks": "core_masks"})
    name_grid(assembly.model.graph.input)
    by_name = {value.name: value for value in assembly.model.graph.input}
    del assembly.model.graph.input[:]
    assembly.model.graph.input.extend(by_name[name] for name in INPUTS)


def name_grid(values: Any) -> None:
    """Name the free axes of the embedding: the exporter's symbols mean nothing to a reader."""
    for value in values:
        if value.name == "image_embeddings":
            for axis, name in ((2, "grid_height"), (3, "grid_width")):
                value.type.tensor_type.shape.dim[axis].Clear()
                value.type.tensor_type.shape.dim[axis].dim_param = name


def _preprocessing(card: Card, frame: int) -> str:
    """Normalise, transpose, pad to the square with zeros (the mean colour), as SAM's `preprocess` does."""
    mean, std = (", ".join(map(repr, values)) for values in (card.mean, card.std))
    shrink = frame // card.side
    last = "before_image = Identity (before_padded)"
    if shrink > 1:
        # Clients have enlarged the picture; cubic undoes that better than a mean: IoU 0.954 instead of 0.934.
        last = f"""before_scales = Constant <value_floats = [1.0, 1.0, {1 / shrink}, {1 / shrink}]> ()
  before_image = {_RESIZE.format("cubic")} (before_padded, "", before_scales)"""
    return f"""{_HEAD}
before (float[height, width, 3] input_image) => (float[1, 3, {card.side}, {card.side}] before_image) {{
  before_mean = Constant <value_floats = [{mean}]> ()
  before_std = Constant <value_floats = [{std}]> ()
  before_centred = Sub (input_image, before_mean)
  before_scaled = Div (before_centred, before_std)
  before_first = Transpose <perm = [2, 0, 1]> (before_scaled)
  before_zero = Constant <value_ints = [0]> ()
  before_one = Unsqueeze (before_first, before_zero)
  before_canvas = Constant <value_ints = [{frame}, {frame}]> ()
  before_shape = Shape <start = 2> (before_one)
  before_room = Sub (before_canvas, before_shape)
  before_none = Constant <value_ints = [0, 0, 0, 0, 0, 0]> ()
  before_pads = Concat <axis = 0> (before_none, before_room)
  before_padded = Pad (before_one, before_pads)
  {last}
}}"""


def _coordinates(shrink: int) -> str:
    return f"""{_HEAD}
before (float[prompts, points, 2] point_coords) => (float[prompts, points, 2] before_coords) {{
  before_shrink = Constant <value_float = {float(shrink)}> ()
  before_coords = Div (point_coords, before_shrink)
}}"""


# SAM's clients pass one hint however many prompts there are.
_HINTS = f"""{_HEAD}
before (float[hints, 1, hint_height, hint_width] mask_input, float[flags] has_mask_input,
        float[prompts, points] point_labels)
    => (float[prompts, 1, hint_height, hint_width] before_mask, float[prompts] before_has) {{
  before_count = Shape <start = 0, end = 1> (point_labels)
  before_has = Expand (has_mask_input, before_count)
  before_ones = Constant <value_ints = [1, 1, 1]> ()
  before_counts = Concat <axis = 0> (before_count, before_ones)
  before_mask = Expand (mask_input, before_counts)
}}"""

_ALL = """
  iou_predictions = Identity (core_iou)
  low_res_masks = Identity (core_masks)"""

# SAM's rule: token 0 loses 1,000 points of score if there is one point beside the padding, else it wins as many.
_SINGLE = """
  after_points = Shape <start = 1, end = 2> (point_labels)
  after_number = Cast <to = 1> (after_points)
  after_middle = Constant <value_floats = [2.5]> ()
  after_over = Sub (after_number, after_middle)
  after_weights = Constant <value_floats = [1000.0, 0.0, 0.0, 0.0]> ()
  after_bonus = Mul (after_over, after_weights)
  after_rated = Add (core_iou, after_bonus)
  after_best = ArgMax <axis = 1, keepdims = 1> (after_rated)
  iou_predictions = GatherElements <axis = 1> (core_iou, after_best)
  after_chosen = GatherND <batch_dims = 1> (core_masks, after_best)
  after_axis = Constant <value_ints = [1]> ()
  low_res_masks = Unsqueeze (after_chosen, after_axis)"""


def _cut(contract: Contract) -> str:
    """How much of the frame the picture fills: floor(frame / longest * size + 1 / 2), as SAM rounds."""
    if contract.whole_sizes:  # in whole numbers throughout, which TensorRT can do on shapes
        return f"""
  after_size = Cast <to = 7> (orig_im_size)
  after_longest = ReduceMax <keepdims = 1> (after_size)
  after_twice = Constant <value_ints = [{2 * contract.frame}]> ()
  after_product = Mul (after_size, after_twice)
  after_sum = Add (after_product, after_longest)
  after_two = Constant <value_ints = [2]> ()
  after_divisor = Mul (after_longest, after_two)
  after_filled = Div (after_sum, after_divisor)"""
    return f"""
  after_size = Cast <to = 7> (orig_im_size)
  after_longest = ReduceMax <keepdims = 1> (orig_im_size)
  after_frame = Constant <value_float = {float(contract.frame)}> ()
  after_ratio = Div (after_frame, after_longest)
  after_exact = Mul (after_ratio, orig_im_size)
  after_half = Constant <value_float = 0.5> ()
  after_up = Add (after_exact, after_half)
  after_floor = Floor (after_up)
  after_filled = Cast <to = 7> (after_floor)"""


def _postprocessing(frame: int, selection: str, size: str, cut: str) -> str:
    """Enlarge to the frame, cut the padding off, enlarge to the picture: SAM's two steps."""
    count = 1 if selection is _SINGLE else 4
    resize = _RESIZE.format("linear")
    return f"""{_HEAD}
after (float[prompts, 4] core_iou, float[prompts, 4, mask_height, mask_width] core_masks,
       float[prompts, points] point_labels, {size}[2] orig_im_size)
    => (float[prompts, {count}, height, width] masks, float[prompts, {count}] iou_predictions,
        float[prompts, {count}, mask_height, mask_width] low_res_masks) {{
  {selection}
  {cut}
  after_head = Shape <start = 0, end = 2> (low_res_masks)
  after_square = Constant <value_ints = [{frame}, {frame}]> ()
  after_whole = Concat <axis = 0> (after_head, after_square)
  after_large = {resize} (low_res_masks, "", "", after_whole)
  after_zeros = Constant <value_ints = [0, 0]> ()
  after_axes = Constant <value_ints = [2, 3]> ()
  after_part = Slice (after_large, after_zeros, after_filled, after_axes)
  after_sizes = Concat <axis = 0> (after_head, after_size)
  masks = {resize} (after_part, "", "", after_sizes)
}}"""
