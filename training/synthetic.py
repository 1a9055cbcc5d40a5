"""Paths through terrain, drawn with NumPy: the data of a run without `--data`.

The images are the same on every machine, because only additions, multiplications, square roots
and uniforms from a seeded generator are used.
"""

import numpy as np

from training.split import Split, Splits

HEIGHT, WIDTH = 60, 80
COUNTS = {"train": 400, "val": 100, "test": 100}
CLASSES = ("terrain", "path", "obstacle")  # of the variant of three classes; terrain has the sky

_ROWS = np.arange(HEIGHT)[:, None]
_COLUMNS = np.arange(WIDTH)[None, :]


def synthetic_splits(
    seed: int = 0,
    counts: dict[str, int] | None = None,
    classes: int = 1,
    *,
    path_width: float = 1.0,
) -> Splits:
    """Draws the three splits; no scene appears in two of them.

    Args:
        seed: Determines every scene. Defaults to 0.
        counts: Number of images in train, val and test. Defaults to 400, 100 and 100.
        classes: 1 for masks of the path, 3 for the numbers of `CLASSES`; the images are the same.
            Defaults to 1.
        path_width: Factor of the path's width; 0.13 makes it 3 % of the pixels. Defaults to 1.

    Returns:
        Splits of images (60, 80, 3) and masks (60, 80, 1) in uint8.

    Example:
        >>> splits = synthetic_splits(counts={"train": 2, "val": 1, "test": 1})
        >>> splits.train.images.shape, splits.test.masks.shape
        ((2, 60, 80, 3), (1, 60, 80, 1))
    """
    drawn = {}
    for index, (name, count) in enumerate((counts or COUNTS).items()):
        rng = np.random.default_rng([seed, index])
        scenes = [draw_scene(rng, classes, path_width) for _ in range(count)]
        images, masks = (np.stack(arrays) for arrays in zip(*scenes, strict=True))
        names = tuple(f"{name}_{number:04d}" for number in range(count))
        drawn[name] = Split(images, masks, names)
    return Splits(**drawn)


def draw_scene(
    rng: np.random.Generator, classes: int = 1, path_width: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one scene.

    A path in perspective runs from the bottom edge to the horizon, or until a bend hides it.
    Path and terrain have colours from one palette, which may be alike, and differ in texture:
    the path is finely grained, the terrain tufted. Shadows fall on both, and obstacles stand
    on either.

    Returns:
        An image (60, 80, 3) and its mask (60, 80, 1), 1 where the path is and, of three classes,
        2 where an obstacle stands; both uint8.
    """
    horizon = int(rng.integers(8, 26))
    depth = np.clip((_ROWS - horizon) / (HEIGHT - horizon), 0.0, 1.0)  # 0 far, 1 near
    mask = (_path(rng, depth, path_width) & (_ROWS >= horizon)).astype(np.uint8)
    in_obstacle = 2 if classes > 1 else 0

    path_colour, terrain_colour = _ground_colours(rng)
    terrain = terrain_colour + _terrain_texture(rng, depth)
    path = path_colour + _path_texture(rng)
    image = np.where(mask[..., None] == 1, path, terrain)
    image = np.where(_ROWS[..., None] < horizon, _sky(rng, horizon), image)

    image *= _shadows(rng, horizon)[..., None]
    for _ in range(rng.integers(0, 5)):
        stands, colour = _obstacle(rng, horizon)
        image = np.where(stands[..., None], colour, image)
        mask[stands] = in_obstacle
    image *= rng.uniform(0.75, 1.15)
    image += rng.uniform(-7.0, 7.0, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask[..., None]


def _path(rng: np.random.Generator, depth: np.ndarray, width: float) -> np.ndarray:
    """Returns where the path is, (height, width): a bent strip, wider towards the viewer."""
    far, near = rng.uniform(0.1, 0.9) * WIDTH, rng.uniform(0.1, 0.9) * WIDTH
    bend = rng.uniform(-0.7, 0.7) * WIDTH
    centre = far + (near - far) * depth + bend * depth * (1.0 - depth)
    half_width = width * (rng.uniform(1.0, 3.5) + rng.uniform(12.0, 38.0) * depth)
    ragged = 1.0 + 0.1 * (_noise(rng, 20, 1) - 0.5)
    return np.abs(_COLUMNS - centre) < half_width * ragged


def _ground_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws two colours, each (3,), from one palette from grey through brown to green."""
    palette = np.array([[120, 118, 115], [142, 118, 90], [98, 112, 62], [165, 150, 120]], float)
    weights = rng.uniform(0.0, 1.0, (2, 4))
    weights = weights * weights
    colours = weights @ palette / weights.sum(axis=1, keepdims=True)
    return colours[0] + rng.uniform(-12, 12, 3), colours[1] + rng.uniform(-12, 12, 3)


def _terrain_texture(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """Returns tufts, (height, width, 1), coarser towards the viewer."""
    fine, coarse = _noise(rng, 30, 40) - 0.5, _noise(rng, 12, 16) - 0.5
    strength = rng.uniform(45.0, 90.0)
    return (strength * (fine * (1.0 - 0.5 * depth) + coarse * (0.4 + 0.6 * depth)))[..., None]


def _path_texture(rng: np.random.Generator) -> np.ndarray:
    """Returns fine grain on top of slow changes, (height, width, 1)."""
    grain = rng.uniform(-0.5, 0.5, (HEIGHT, WIDTH)) * rng.uniform(8.0, 26.0)
    slow = (_noise(rng, 4, 5) - 0.5) * rng.uniform(15.0, 45.0)
    return (grain + slow)[..., None]


def _sky(rng: np.random.Generator, horizon: int) -> np.ndarray:
    """Returns a gradient with clouds, or a wall of trees, (height, width, 3)."""
    if rng.uniform() < 0.4:
        trees = np.array([70.0, 85.0, 55.0]) + rng.uniform(-15, 15, 3)
        return trees + 70.0 * (_noise(rng, 20, 27) - 0.5)[..., None]
    blue = np.array([rng.uniform(110, 170), rng.uniform(140, 190), rng.uniform(170, 230)])
    haze = np.clip(_ROWS / horizon, 0.0, 1.0)[..., None]
    clouds = np.clip(_noise(rng, 6, 8) - 0.5, 0.0, 1.0)[..., None]
    return blue + 40.0 * haze + 90.0 * clouds


def _shadows(rng: np.random.Generator, horizon: int) -> np.ndarray:
    """Returns brightness factors, (height, width): slanted stripes and patches."""
    factors = np.ones((HEIGHT, WIDTH))
    below = horizon <= _ROWS
    for _ in range(rng.integers(0, 4)):
        slant, offset = rng.uniform(-1.5, 1.5), rng.uniform(0, WIDTH)
        stripe = np.abs(_COLUMNS - offset - slant * (_ROWS - horizon)) < rng.uniform(2, 9)
        factors = np.where(stripe & below, factors * rng.uniform(0.5, 0.8), factors)
    patches = _noise(rng, 5, 7) > rng.uniform(0.6, 1.0)
    return np.where(patches & below, factors * rng.uniform(0.6, 0.85), factors)


def _obstacle(rng: np.random.Generator, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mask of a bush or stone, (height, width), and its colours."""
    foot = rng.uniform(horizon + 3, HEIGHT)
    size = 1.5 + 9.0 * (foot - horizon) / (HEIGHT - horizon) * rng.uniform(0.4, 1.0)
    middle, upright = rng.uniform(0, WIDTH), rng.uniform(0.7, 1.8)
    across, up = (_COLUMNS - middle) / size, (foot - size * upright - _ROWS) / (size * upright)
    distance = across * across + up * up
    light = (1.0 - 0.35 * distance + 0.25 * up)[..., None]
    bush, stone = np.array([72.0, 90.0, 48.0]), np.array([128.0, 122.0, 116.0])
    colour = (bush if rng.uniform() < 0.5 else stone) + rng.uniform(-20, 20, 3)
    return distance < 1.0, colour * light + 25.0 * (_noise(rng, 20, 27) - 0.5)[..., None]


def _noise(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Returns value noise in 0..1, (height, width): a random grid, interpolated linearly."""
    grid = rng.uniform(0.0, 1.0, (rows + 1, columns + 1))
    y, x = _ROWS[:, 0] * (rows / HEIGHT), _COLUMNS[0] * (columns / WIDTH)
    top, left = y.astype(int), x.astype(int)
    down, right = (y - top)[:, None], (x - left)[None, :]
    upper = grid[top][:, left] * (1 - right) + grid[top][:, left + 1] * right
    lower = grid[top + 1][:, left] * (1 - right) + grid[top + 1][:, left + 1] * right
    return upper * (1 - down) + lower * down
