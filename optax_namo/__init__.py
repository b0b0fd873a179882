# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""NAMO and NAMO-D (arXiv 2602.17080) as composable optax chains.

Begin with two names: ``namo_d``, the optimizer, and ``routing_table``, which
shows what it takes for a matrix::

  tx = optax_namo.namo_d(0.035, adam_learning_rate=3e-3)
  print(optax_namo.routing_table(params))

The others, by purpose:

- optimizers: ``namo_d``, ``namo``; their rules alone: ``scale_by_namo_d``,
  ``scale_by_namo``
- which leaves are matrices: ``matrix_dimension_numbers`` (by names),
  ``dimension_numbers_by_use`` (by the loss), ``SplitMatrices``
- orthogonalizers: ``newton_schulz``, ``polar_svd``, ``minimax_coefficients``
- what happens in training: ``diagnostics``
- stages of the chain: ``adaptive_momentum``, ``orthogonalize``,
  ``scale_by_shape``, ``add_adaptive_decay``, ``clamp_scale``, ``record``,
  ``apply_scale``; your own: ``stage``, ``routed``, ``Factored``
"""

from optax_namo._door import routed
from optax_namo._factored import Factored
from optax_namo._factored import stage
from optax_namo._layout.axes import Columns
from optax_namo._layout.stacking import Orthogonalizer
from optax_namo._momentum import adaptive_momentum
from optax_namo._momentum import NamoState
from optax_namo._namo import Decay
from optax_namo._namo import namo
from optax_namo._namo import namo_d
from optax_namo._namo import scale_by_namo
from optax_namo._namo import scale_by_namo_d
from optax_namo._polar.coefficients import Coefficients
from optax_namo._polar.coefficients import Name as CoefficientSet
from optax_namo._polar.minimax import minimax_coefficients
from optax_namo._polar.newton_schulz import newton_schulz
from optax_namo._polar.polar_svd import polar_svd
from optax_namo._polar.preconditioning import Preconditioning
from optax_namo._record import diagnostics
from optax_namo._record import MatrixDiagnostics
from optax_namo._record import record
from optax_namo._record import RecordState
from optax_namo._routing.by_name import matrix_dimension_numbers
from optax_namo._routing.by_use import dimension_numbers_by_use
from optax_namo._routing.dimension_numbers import SplitMatrices
from optax_namo._routing.table import Route
from optax_namo._routing.table import routing_table
from optax_namo._routing.table import RoutingTable
from optax_namo._stages import add_adaptive_decay
from optax_namo._stages import apply_scale
from optax_namo._stages import clamp_scale
from optax_namo._stages import orthogonalize
from optax_namo._stages import scale_by_shape
from optax_namo._stages import ShapeScale

__version__ = '0.1.0'

__all__ = [
  'adaptive_momentum',
  'add_adaptive_decay',
  'apply_scale',
  'clamp_scale',
  'CoefficientSet',
  'Coefficients',
  'Columns',
  'Decay',
  'diagnostics',
  'dimension_numbers_by_use',
  'Factored',
  'matrix_dimension_numbers',
  'MatrixDiagnostics',
  'minimax_coefficients',
  'namo',
  'namo_d',
  'NamoState',
  'newton_schulz',
  'orthogonalize',
  'Orthogonalizer',
  'polar_svd',
  'Preconditioning',
  'record',
  'RecordState',
  'Route',
  'routed',
  'routing_table',
  'RoutingTable',
  'scale_by_namo',
  'scale_by_namo_d',
  'scale_by_shape',
  'ShapeScale',
  'SplitMatrices',
  'stage',
]
