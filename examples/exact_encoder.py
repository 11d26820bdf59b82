"""An encoder of digits without gradient steps: patches and a spectral map, opened and measured like any run."""

import tempfile

import pairsift as ps
from pairsift.evaluate import knn

with tempfile.TemporaryDirectory() as folder:
    config = ps.TrainConfig(
        data="digits:train", per_class=60, method="exact", filters=60, views=4, flip=0, grey=0, hue=0, saturation=0,
        crop_min=0.4, run_dir=f"{folder}/exact", progress=False,
    )  # fmt: skip
    result = ps.pretrain(config, say=print)
    encoder = ps.train.Run.open(f"{folder}/exact").load_encoder()
    test = ps.data.load_images("digits:test")
    train, found = (ps.train.embed(encoder, images) for images in (result.images, test))
    print(f"20-NN: {knn(train, result.images.labels, found, test.labels, k=20):.1%}")
