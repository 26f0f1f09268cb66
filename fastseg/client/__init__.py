"""Client of ``fastseg serve``, which needs Python's standard library alone.

with Client("http://127.0.0.1:8765") as client, client.open("heart.png") as image:
    masks = image.segment(boxes=[[10, 10, 90, 80]])
"""

from fastseg.client.mask import Mask, to_mask
from fastseg.client.remote import Client, RemoteImage

__all__ = ["Client", "Mask", "RemoteImage", "to_mask"]
