"""Opens the stores that the settings name, by the scheme of their URL.

The client libraries are imported here only when their scheme is used.
"""

from stores.analyses import Analyses
from stores.animals import Animals
from stores.cache import Cache
from stores.documents import Documents
from stores.jobs import JobStore
from stores.objects import Objects
from stores.people import People
from stores.shots import Shots
from stores.vectors import Vectors

NO_DOCUMENTS = "a document store URL starts with sqlite:///, mongodb:// or mongodb+srv://"


def open_documents(url: str) -> Documents:
    """:raises ValueError: the URL has another scheme than ``sqlite:///`` or ``mongodb://``."""
    if url.startswith("sqlite:///"):
        from stores.sqlite.documents import SqliteDocuments

        return SqliteDocuments(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from stores.mongo.documents import MongoDocuments

        return MongoDocuments(url)
    raise ValueError(NO_DOCUMENTS)


def open_jobs(url: str) -> JobStore:
    """Jobs live where the documents do. Raises ValueError as ``open_documents`` does."""
    if url.startswith("sqlite:///"):
        from stores.sqlite.jobs import SqliteJobs

        return SqliteJobs(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from stores.mongo.jobs import MongoJobs

        return MongoJobs(url)
    raise ValueError(NO_DOCUMENTS)


def open_people(url: str) -> People:
    """Traces and identities live where the documents do. Raises ValueError as ``open_documents`` does."""
    if url.startswith("sqlite:///"):
        from stores.sqlite.people import SqlitePeople

        return SqlitePeople(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from stores.mongo.people import MongoPeople

        return MongoPeople(url)
    raise ValueError(NO_DOCUMENTS)


def open_shots(url: str) -> Shots:
    """Shots live where the documents do. Raises ValueError as ``open_documents`` does."""
    if url.startswith("sqlite:///"):
        from stores.sqlite.shots import SqliteShots

        return SqliteShots(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from stores.mongo.shots import MongoShots

        return MongoShots(url)
    raise ValueError(NO_DOCUMENTS)


def open_analyses(url: str) -> Analyses:
    """Analyses live where the documents do. Raises ValueError as ``open_documents`` does."""
    if url.startswith("sqlite:///"):
        from stores.sqlite.analyses import SqliteAnalyses

        return SqliteAnalyses(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from stores.mongo.analyses import MongoAnalyses

        return MongoAnalyses(url)
    raise ValueError(NO_DOCUMENTS)


def open_animals(url: str) -> Animals:
    """Enrolled animals live where the documents do. Raises ValueError as ``open_documents`` does."""
    if url.startswith("sqlite:///"):
        from stores.sqlite.animals import SqliteAnimals

        return SqliteAnimals(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from stores.mongo.animals import MongoAnimals

        return MongoAnimals(url)
    raise ValueError(NO_DOCUMENTS)


def open_objects(url: str) -> Objects:
    """:raises ValueError: the URL has another scheme than ``file:///`` or ``s3://``."""
    if url.startswith("file:///"):
        from stores.file.objects import FileObjects

        return FileObjects(url)
    if url.startswith("s3://"):
        from stores.s3.objects import S3Objects

        return S3Objects(url)
    raise ValueError("an object store URL starts with file:/// or s3://")


def open_vectors(url: str) -> Vectors:
    """:raises ValueError: the URL has another scheme than ``file:///`` or ``s3://``."""
    if url.startswith(("file:///", "s3://")):
        from stores.lance.vectors import LanceVectors

        return LanceVectors(url)
    raise ValueError("a vector store URL starts with file:/// or s3://")


def open_cache(url: str) -> Cache:
    """:raises ValueError: the URL is not empty and has another scheme than ``redis://``, ``rediss://``, ``unix://``."""
    return Cache(url)
