"""Draw docs/images/turn.webp, the turning head on top of the README, from a sample, with the shipped network.

`make picture` calls it. It needs neither a screen nor a graphics card.
"""

from pathlib import Path

from strokeseg import components, pipeline, surface
from strokeseg.write import views

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples/ctich_081"
PICTURE = ROOT / "docs/images/turn.webp"
SIDE = 440


def main() -> None:
    result = pipeline.segment(SAMPLE)
    labels, _ = components.label(result.mask, result.scan)
    frames = views.turning(result.scan, surface.build(result.scan, labels), SIDE)
    views.write_turn(PICTURE, frames)
    print(f"{PICTURE.relative_to(ROOT)}: {len(frames)} frames, {PICTURE.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
