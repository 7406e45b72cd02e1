"""Our tables and ids in TorchRec's types."""

from torchrec import EmbeddingBagConfig, KeyedJaggedTensor, PoolingType

from recsys_mtl.config import Data
from recsys_mtl.data.batch import IdBags
from recsys_mtl.data.features import table_sizes


def table_descriptions(data: Data) -> list[EmbeddingBagConfig]:
    """One TorchRec table for each feature that owns one, in the order of the configuration.

    Every table pools by sum: pooling is a feature's in our configuration and a table's in
    TorchRec's, so the mean is taken from the sum afterwards (`distributed/sharding.py`).
    """
    sizes, features = table_sizes(data), dict(data.id_features())
    return [
        EmbeddingBagConfig(
            name=table_name(owner),
            num_embeddings=sizes[owner],
            embedding_dim=features[owner].embedding_dim,
            feature_names=[n for n, f in features.items() if (f.table or n) == owner],
            pooling=PoolingType.SUM,
        )
        for owner in sizes
    ]


def table_name(owner: str) -> str:
    """What TorchRec calls the table of feature `owner`.

    Not the feature's own name: tables become attributes of a module, where `items` or `type` of a
    click log would hide its methods.
    """
    return f"{owner}_table"


def keyed_jagged(ids: IdBags) -> KeyedJaggedTensor:
    """The ids as TorchRec's lookup takes them, on the same memory."""
    return KeyedJaggedTensor(
        keys=list(ids.names),
        values=ids.values,
        lengths=ids.lengths,
        length_per_key=list(ids.ids_per_feature),  # else TorchRec asks the device for it
    )
