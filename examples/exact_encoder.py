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
    train = result.images
    pixels = [images.images.reshape(len(images), -1) / 255 for images in (train, test)]
    solved = [ps.train.embed(encoder, images) for images in (train, test)]
    before, after = (knn(x, train.labels, y, test.labels, k=20) for x, y in (pixels, solved))
    print(f"20-NN: {before:.1%} pixels, {after:.1%} exact")
