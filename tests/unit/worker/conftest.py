from tests.one_worker import alone

__all__ = ["alone"]
