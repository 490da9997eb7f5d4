"""What all clients send."""

from __future__ import annotations

TEXTS = [
    "The kettle switches itself off when the water boils.",
    "Grüße aus Zürich: 5 € für zwei Stück.",
    "水が沸くとやかんは自動的に止まります。",
    "x",
    "Hold both buttons for five seconds. " * 4,
]
QUERY = "where is the cat"
DOCUMENTS = ["prices rose in may", "the cat sat on a mat", "it fell again by june and rose", "cat", "who what when how"]
