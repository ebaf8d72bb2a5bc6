"""Names of the classes of objects: one for each, whatever a checkpoint or a person calls it.

Checkpoints that were trained on COCO have the names of its 2017 release, of its 2014 one, or those of Pascal VOC
before it, with spaces, underscores or hyphens; people write them as they come.
"""

import re
from typing import Final

_BETWEEN: Final = re.compile(r"[\s_-]+")
_OTHER_NAMES: Final = {
    "aeroplane": "airplane",
    "plane": "airplane",
    "motorbike": "motorcycle",
    "motor bike": "motorcycle",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
    "tv monitor": "tv",
    "television": "tv",
    "cellphone": "cell phone",
    "mobile phone": "cell phone",
    "doughnut": "donut",
    "hair dryer": "hair drier",
    "hairdryer": "hair drier",
    "teddybear": "teddy bear",
    "trafficlight": "traffic light",
    "refridgerator": "refrigerator",
    "fridge": "refrigerator",
}


def class_name(text: str) -> str:
    """Return the one name of a class: in lower case, with single spaces, and that of COCO 2017 where it has another."""
    name = _BETWEEN.sub(" ", text).strip().lower()
    return _OTHER_NAMES.get(name, name)
