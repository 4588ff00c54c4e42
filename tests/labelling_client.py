"""What AnyLabeling and X-AnyLabeling do with a `segment_anything` model: read the YAML, feed the graphs, trace.

Written from their contract (see `samlet.export.labelling`): a picture is scaled to fit into 1,024 x 684 pixels, warped
with a black border to exactly that, and fed as float32; a padding point ends every prompt; only `masks[0][0]` counts.
"""

import cv2
import numpy as np
import onnxruntime
import yaml

INPUT_HW = (684, 1024)


class LabellingClient:
    """A model as such a program holds it."""

    def __init__(self, config_path):
        config = yaml.safe_load(config_path.read_text("utf-8"))
        for key in ("type", "name", "display_name", "encoder_model_path", "decoder_model_path"):
            assert config[key], key
        assert config["type"] == "segment_anything"
        # They read these with config[...], so that a missing one stops them.
        assert [config[key] for key in ("input_size", "max_width", "max_height")] == [1024, 1024, 682]
        folder = config_path.parent
        providers = ["CPUExecutionProvider"]
        self.encoder = onnxruntime.InferenceSession(
            folder / config["encoder_model_path"], providers=providers
        )
        self.decoder = onnxruntime.InferenceSession(
            folder / config["decoder_model_path"], providers=providers
        )
        names = [entry.name for entry in self.decoder.get_inputs()]
        # Other names would make them take the model for SAM 2 or 3.
        assert not {"backbone_fpn_0", "language_mask", "high_res_feats_0"} & set(names)

    def encode(self, rgb):
        height, width = rgb.shape[:2]
        scale = min(INPUT_HW[1] / width, INPUT_HW[0] / height)
        self.matrix = np.array([[scale, 0, 0], [0, scale, 0], [0, 0, 1]])
        self.size_hw = height, width
        warped = cv2.warpAffine(rgb, self.matrix[:2], INPUT_HW[::-1], flags=cv2.INTER_LINEAR)
        (entry,) = self.encoder.get_inputs()
        assert entry.type == "tensor(float)" and len(entry.shape) == 3
        return self.encoder.run(None, {entry.name: warped.astype(np.float32)})[0]

    def decode(self, embedding, points, labels):
        """Logits of `masks[0][0]` in the picture; box corners are points with labels 2 and 3."""
        coords = np.concatenate([np.array(points, np.float32), [[0, 0]]])[None]
        coords = np.concatenate([coords, np.ones((1, len(coords[0]), 1))], axis=2) @ self.matrix.T
        masks, _, _ = self.decoder.run(
            None,
            {
                "image_embeddings": embedding,
                "point_coords": coords[:, :, :2].astype(np.float32),
                "point_labels": np.array([[*labels, -1]], np.float32),
                "mask_input": np.zeros((1, 1, 256, 256), np.float32),
                "has_mask_input": np.zeros(1, np.float32),
                "orig_im_size": np.array(INPUT_HW, np.float32),
            },
        )
        back = np.linalg.inv(self.matrix)
        return cv2.warpAffine(masks[0][0], back[:2], self.size_hw[::-1], flags=cv2.INTER_LINEAR)

    @staticmethod
    def outline(logits):
        """The polygon that ends up in the label file: outer contours, simplified, the small and the huge left out."""
        mask = (logits > 0).astype(np.uint8) * 255
        found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        simple = [cv2.approxPolyDP(c, 0.001 * cv2.arcLength(c, True), True) for c in found]
        areas = [cv2.contourArea(c) for c in simple]
        kept = [c for c, area in zip(simple, areas, strict=True) if area < mask.size * 0.9]
        mean = np.mean([cv2.contourArea(c) for c in kept]) if kept else 0
        return [c for c in kept if cv2.contourArea(c) > 0.2 * mean]
