"""LlamaIndex's store of vectors, by keys of nimbed's own."""

from typing import Any

from llama_index.core.storage.kvstore.types import BaseKVStore

__all__ = ["COLLECTION", "KeyedStore"]

COLLECTION = "embeddings"


class KeyedStore(BaseKVStore):
    """The user's store, wrapped so that LlamaIndex's base class can't use it by its own keys.

    The base class looks vectors up by the text alone, so it must find nothing here and store nothing here;
    ``NimbedEmbedding`` uses ``store`` by keys that also name fingerprint and role.
    """

    def __init__(self, store: BaseKVStore) -> None:
        self.store = store

    @classmethod
    def of(cls, store: object) -> object:
        """Around a store; anything else is LlamaIndex's to refuse."""
        return cls(store) if isinstance(store, BaseKVStore) and not isinstance(store, cls) else store

    def get(self, *_: object, **__: object) -> None:
        return None

    async def aget(self, *_: object, **__: object) -> None:
        return None

    def put(self, *_: object, **__: object) -> None:
        return None

    async def aput(self, *_: object, **__: object) -> None:
        return None

    def get_all(self, collection: str = COLLECTION) -> dict[str, dict[str, Any]]:
        return self.store.get_all(collection=collection)

    async def aget_all(self, collection: str = COLLECTION) -> dict[str, dict[str, Any]]:
        return await self.store.aget_all(collection=collection)

    def delete(self, key: str, collection: str = COLLECTION) -> bool:
        return self.store.delete(key, collection=collection)

    async def adelete(self, key: str, collection: str = COLLECTION) -> bool:
        return await self.store.adelete(key, collection=collection)
