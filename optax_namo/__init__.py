# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""NAMO and NAMO-D (arXiv 2602.17080) as composable optax chains."""

from optax_namo._door import routed as routed
from optax_namo._factored import Factored as Factored
from optax_namo._factored import stage as stage
from optax_namo._momentum import adaptive_momentum as adaptive_momentum
from optax_namo._momentum import NamoState as NamoState
from optax_namo._namo import namo as namo
from optax_namo._namo import namo_d as namo_d
from optax_namo._namo import scale_by_namo as scale_by_namo
from optax_namo._namo import scale_by_namo_d as scale_by_namo_d
from optax_namo._polar.minimax import (
  minimax_coefficients as minimax_coefficients,
)
from optax_namo._polar.newton_schulz import newton_schulz as newton_schulz
from optax_namo._polar.polar_svd import polar_svd as polar_svd
from optax_namo._record import diagnostics as diagnostics
from optax_namo._record import MatrixDiagnostics as MatrixDiagnostics
from optax_namo._record import record as record
from optax_namo._record import RecordState as RecordState
from optax_namo._routing.by_name import (
  matrix_dimension_numbers as matrix_dimension_numbers,
)
from optax_namo._routing.by_use import (
  dimension_numbers_by_use as dimension_numbers_by_use,
)
from optax_namo._routing.dimension_numbers import SplitMatrices as SplitMatrices
from optax_namo._routing.table import Route as Route
from optax_namo._routing.table import routing_table as routing_table
from optax_namo._routing.table import RoutingTable as RoutingTable
from optax_namo._stages import add_adaptive_decay as add_adaptive_decay
from optax_namo._stages import apply_scale as apply_scale
from optax_namo._stages import clamp_scale as clamp_scale
from optax_namo._stages import orthogonalize as orthogonalize
from optax_namo._stages import scale_by_shape as scale_by_shape

__version__ = '0.1.0'

# For help() and `import *`.
__all__ = sorted(name for name in globals() if not name.startswith('_'))
