"""From an encoded picture to uint8 pixels: upright, cut to its central square, resized as the sampler draws."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from resurgence_gate.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

# The first of each picture of these is read by Pillow itself; others would call programs or are seldom tested.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_EIGHT_BITS = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})


def decode(encoded: bytes, size: int, where: str) -> NDArray[np.uint8]:
    """Pixels [3, size, size] of a PNG, JPEG, WebP or BMP picture. Raises UsageError, which names `where`.

    Turned as EXIF says, made RGB (transparency is dropped, as diffusers' examples do), cropped to the central
    square, resized by Lanczos' filter, which smoothes where it shrinks.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        # A small file that swells to gigabytes is refused, as by Pillow itself from twice the size on.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=_FORMATS) as picture:
                _eight_bits(picture, where)
                upright = ImageOps.exif_transpose(picture).convert("RGB")
                square = _central_square(upright).resize((size, size), Image.Resampling.LANCZOS)
    except (UsageError, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = f"{(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f}"
        raise UsageError(f"{where}: has more than {limit} million pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise UsageError(
            f"{where}: is no PNG, JPEG, WebP or BMP picture, or a damaged one; replace it or take it away"
        ) from None
    except Exception as error:  # decoders meet damage with almost any error
        raise UsageError(f"{where}: is damaged ({error}); replace it or take it away") from error
    return np.asarray(square).transpose(2, 0, 1).copy()


def _eight_bits(picture: Image, where: str) -> None:
    if picture.mode not in _EIGHT_BITS:
        raise UsageError(
            f"{where}: has more than 8 bits a channel ({picture.mode}), which would be cut off; save it with 8"
        )


def _central_square(picture: Image) -> Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))
