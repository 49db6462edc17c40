"""Draw docs/images/turn.webp, the turning head at the top of the README, from a sample with the shipped network.

`make picture` calls it. It needs neither a screen nor a GPU.
"""

from pathlib import Path

from strokeseg import pipeline, surfaces
from strokeseg.outputs.images import scene_views

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples/ctich_081"
PICTURE = ROOT / "docs/images/turn.webp"
SIDE = 440


def main() -> None:
    result = pipeline.segment(SAMPLE)
    frames = scene_views.draw_turn(result.scan, surfaces.build_scene(result.scan, result.labels), SIDE)
    scene_views.write_animation(PICTURE, frames)
    print(f"{PICTURE.relative_to(ROOT)}: {len(frames)} frames, {PICTURE.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
