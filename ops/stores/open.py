"""Opens the stores that the settings name, by the scheme of their URL.

The client libraries are imported here only when their scheme is used.
"""

from ops.stores.analyses import Analyses
from ops.stores.animals import Animals
from ops.stores.cache import Cache
from ops.stores.documents import Documents
from ops.stores.jobs import JobStore
from ops.stores.objects import Objects
from ops.stores.people import People
from ops.stores.shots import Shots
from ops.stores.vectors import Vectors

NO_DOCUMENTS = "a document store URL starts with sqlite:///, mongodb:// or mongodb+srv://"


def open_documents(url: str) -> Documents:
    """:raises ValueError: the URL has another scheme than ``sqlite:///`` or ``mongodb://``."""
    if url.startswith("sqlite:///"):
        from ops.stores.sqlite_documents import SqliteDocuments

        return SqliteDocuments(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from ops.stores.mongo_documents import MongoDocuments

        return MongoDocuments(url)
    raise ValueError(NO_DOCUMENTS)


def open_jobs(url: str) -> JobStore:
    """Jobs live where the documents do. Raises ValueError as ``open_documents`` does."""
    if url.startswith("sqlite:///"):
        from ops.stores.sqlite_jobs import SqliteJobs

        return SqliteJobs(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from ops.stores.mongo_jobs import MongoJobs

        return MongoJobs(url)
    raise ValueError(NO_DOCUMENTS)


def open_people(url: str) -> People:
    """Traces and identities live where the documents do. Raises ValueError as ``open_documents`` does."""
    if url.startswith("sqlite:///"):
        from ops.stores.sqlite_people import SqlitePeople

        return SqlitePeople(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from ops.stores.mongo_people import MongoPeople

        return MongoPeople(url)
    raise ValueError(NO_DOCUMENTS)


def open_shots(url: str) -> Shots:
    """Shots live where the documents do. Raises ValueError as ``open_documents`` does."""
    if url.startswith("sqlite:///"):
        from ops.stores.sqlite_shots import SqliteShots

        return SqliteShots(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from ops.stores.mongo_shots import MongoShots

        return MongoShots(url)
    raise ValueError(NO_DOCUMENTS)


def open_analyses(url: str) -> Analyses:
    """Analyses live where the documents do. Raises ValueError as ``open_documents`` does."""
    if url.startswith("sqlite:///"):
        from ops.stores.sqlite_analyses import SqliteAnalyses

        return SqliteAnalyses(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from ops.stores.mongo_analyses import MongoAnalyses

        return MongoAnalyses(url)
    raise ValueError(NO_DOCUMENTS)


def open_animals(url: str) -> Animals:
    """Enrolled animals live where the documents do. Raises ValueError as ``open_documents`` does."""
    if url.startswith("sqlite:///"):
        from ops.stores.sqlite_animals import SqliteAnimals

        return SqliteAnimals(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from ops.stores.mongo_animals import MongoAnimals

        return MongoAnimals(url)
    raise ValueError(NO_DOCUMENTS)


def open_objects(url: str) -> Objects:
    """:raises ValueError: the URL has another scheme than ``file:///`` or ``s3://``."""
    if url.startswith("file:///"):
        from ops.stores.file_objects import FileObjects

        return FileObjects(url)
    if url.startswith("s3://"):
        from ops.stores.s3_objects import S3Objects

        return S3Objects(url)
    raise ValueError("an object store URL starts with file:/// or s3://")


def open_vectors(url: str) -> Vectors:
    """:raises ValueError: the URL has another scheme than ``file:///`` or ``s3://``."""
    if url.startswith(("file:///", "s3://")):
        from ops.stores.lance_vectors import LanceVectors

        return LanceVectors(url)
    raise ValueError("a vector store URL starts with file:/// or s3://")


def open_cache(url: str) -> Cache:
    """:raises ValueError: the URL is not empty and has another scheme than ``redis://``, ``rediss://``, ``unix://``."""
    return Cache(url)
