"""Client of the Lineament feature store.

>>> import lineament, pandas
>>> client = lineament.connect("grpc://127.0.0.1:8815")
>>> flights = pandas.DataFrame({"origin": ["EWR"], "at": pandas.to_datetime(["2013-07-01T12:00:00Z"])})
>>> training_set = client.get_historical_features(flights, ["weather.temp"])
>>> training_set.to_df()
  origin                        at   temp
0    EWR 2013-07-01 12:00:00+00:00  75.92
"""

from . import alerts as alerts
from . import mlflow as mlflow  # ours, which does not import theirs
from .audit import Audit, AuditedCell, AuditedColumn, LeakingBatch
from .client import Client, connect
from .definition import DefinedView, DefinitionWarning
from .deprecations import Approval, DeprecatedFeatureWarning, Deprecation
from .diff import CellChange, CellChanges, ChangedBy, Diff, Retyped, RowChange
from .erasure import Erased, ErasedTrainingSet
from .errors import (
    Busy,
    Damaged,
    Error,
    Forbidden,
    InvalidRequest,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)
from .explanation import Candidate, Explanation
from .exports import Export
from .feature_view import FeatureDescription, FeatureView
from .kept_spine import KeptSpine
from .loader import Loader
from .online import OnlineResponse
from .policies import PolicyPlan
from .producer import ProducerStream, Receipt
from .registry import Ended, Hold, Impact, Lineage, Reached, Refreshed, Rollback, RolledBack, Step
from .reports import Change, Difference, IngestReport, Plan, Rejections, ReplayReport, Suspect
from .retention import KeptRows, Retained, RetainedView
from .rows import Rows
from .search import Found, SearchResult
from .server import Server, serve
from .splits import Parts, Split
from .streams import BatchStream
from .training_set import Feature, TrainingSet

__version__ = "0.1.0"

__all__ = [
    "Approval",
    "Audit",
    "AuditedCell",
    "AuditedColumn",
    "BatchStream",
    "Busy",
    "Candidate",
    "CellChange",
    "CellChanges",
    "Change",
    "ChangedBy",
    "Client",
    "Damaged",
    "DefinedView",
    "DefinitionWarning",
    "DeprecatedFeatureWarning",
    "Deprecation",
    "Diff",
    "Difference",
    "Ended",
    "Erased",
    "ErasedTrainingSet",
    "Error",
    "Explanation",
    "Export",
    "Feature",
    "FeatureDescription",
    "FeatureView",
    "Forbidden",
    "Found",
    "Hold",
    "Impact",
    "IngestReport",
    "InvalidRequest",
    "KeptRows",
    "KeptSpine",
    "LeakingBatch",
    "Lineage",
    "Loader",
    "NotFound",
    "OnlineResponse",
    "Parts",
    "Plan",
    "PolicyPlan",
    "ProducerStream",
    "Reached",
    "Receipt",
    "Refreshed",
    "Rollback",
    "RolledBack",
    "Refused",
    "Rejections",
    "ReplayReport",
    "Retained",
    "RetainedView",
    "Retyped",
    "RowChange",
    "Rows",
    "SearchResult",
    "Server",
    "Split",
    "Step",
    "Suspect",
    "TrainingSet",
    "Unauthenticated",
    "Unavailable",
    "connect",
    "serve",
]
