"""Put small copies of the figures of a folder into the gallery: `python docs/small_copies.py results`.

A copy is as wide as a page of the site, has few colours, and keeps its caption, which the gallery shows.
"""

import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from quenched.sim.figures import figures, picture

FOLDER = Path(__file__).parent / "figures"
WIDTH, COLOURS = 1000, 128


def copy(name: str, folder: Path) -> None:
    """The small copy of a figure."""
    told = PngInfo()
    with Image.open(picture(folder, name)) as image:
        for key in ("Title", "Description"):
            told.add_itxt(key, image.info[key])
        size = WIDTH, round(image.height * WIDTH / image.width)
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    small.quantize(COLOURS, kmeans=3, dither=Image.Dither.NONE).save(picture(FOLDER, name), optimize=True, pnginfo=told)


if __name__ == "__main__":
    results = Path(sys.argv[1])
    for figure in figures():
        if picture(results, figure).exists():
            copy(figure, results)
