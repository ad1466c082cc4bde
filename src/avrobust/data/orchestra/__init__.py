from avrobust.data.orchestra.write import CLASSES, Orchestra, write

__all__ = ["CLASSES", "Orchestra", "write"]
