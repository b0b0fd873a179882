# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What names, biases and norms tell the router where no type does.

Expectations are ``(reduction axes, output axes)``; leaves without are AdamW's.
"""

import dataclasses
import re

from flax import nnx
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.core.routes import matrices
from tests.core.routes import routes
from tests.core.routes import why

pytestmark = pytest.mark.filterwarnings(
  'error::UserWarning', 'ignore:NO LEAF IS A MATRIX.*If some are:UserWarning'
)

_KERNEL, _ROWS = ((0,), (1,)), ((1,), (0,))


def _ones(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def _layer(**shapes):
  return {'layer': {name: _ones(*shape) for name, shape in shapes.items()}}


@pytest.mark.parametrize(
  'name, matrix',
  [
    ('logits_dense', False),
    ('logitdense', False),
    ('mlm_head', False),
    ('value_head', False),
    ('policy_head', False),
    ('cls_head', False),
    ('Head_0', False),
    ('head_1', False),
    ('to_logits', False),
    ('lm_logits', False),
    ('logit', False),
    ('to_vocab', False),
    ('vocab_proj', False),
    ('readout', False),
    ('classifier', False),
    ('depthwise_conv', False),
    ('layer_scale', False),
    ('LayerScale_0', False),
    ('multi_head', True),
    ('classifier_free', True),
    ('value_heads', True),
    ('headroom', True),
    ('overhead', True),
    ('my_logitdense', True),
  ],
)
def test_heads_and_layer_scales(name, matrix):
  params = {name: {'kernel': _ones(4, 6), 'gate': _ones(3, 6)}}
  expected = {f'{name}/gate': _KERNEL, f'{name}/kernel': _KERNEL}
  assert matrices(params, strict=True) == (expected if matrix else {})


def _tree(**shapes):
  """Of names such as head__kernel."""
  return {
    name.replace('__', '/'): _ones(*shape) for name, shape in shapes.items()
  }


@pytest.mark.parametrize(
  'params, expected',
  [
    # Layers that make an embedding.
    (
      _tree(time_embedding__linear_1__weight=(8, 4),
            time_embedding__linear_1__bias=(8,),
            patch_embed__proj__kernel=(4, 6)),
      {'time_embedding/linear_1/weight', 'patch_embed/proj/kernel'},
    ),
    # The last layer, alone at the end of the model.
    (_tree(l__kernel=(4, 6), output__kernel=(6, 3), output__bias=(3,)),
     {'l/kernel'}),
    (_tree(params__encoder__kernel=(4, 6), params__decoder__kernel=(6, 4)),
     {'params/encoder/kernel'}),
    (_tree(output__kernel=(6, 6), lm_head__kernel=(6, 11)), {'output/kernel'}),
    (_tree(l__kernel=(4, 6), output_layer__kernel=(6, 3)), {'l/kernel'}),
    (_tree(l__kernel=(4, 6), output_projection__kernel=(6, 3)), {'l/kernel'}),
    (_tree(l__kernel=(4, 6), final_layer__kernel=(6, 3)), {'l/kernel'}),
    # Layers within blocks.
    (_tree(h__0__fc_out__kernel=(4, 6)), {'h/0/fc_out/kernel'}),
    (_tree(h__0__output_projection__kernel=(4, 6)),
     {'h/0/output_projection/kernel'}),
    (_tree(attn__proj_out__kernel=(4, 6), mlp__proj_out__kernel=(6, 4)),
     {'attn/proj_out/kernel', 'mlp/proj_out/kernel'}),
    (_tree(layer__0__output__dense__kernel=(6, 6), head__kernel=(6, 3)),
     {'layer/0/output/dense/kernel'}),
    (_tree(encoder__l__kernel=(4, 6), decoder__l__kernel=(6, 4)),
     {'encoder/l/kernel', 'decoder/l/kernel'}),
  ],
)  # fmt: skip
def test_names_of_containers_and_last_layers(params, expected):
  assert set(matrices(params, strict=True)) == expected


@pytest.mark.parametrize(
  'params, said',
  [
    # Layers in a head: which is the last is not told.
    (_tree(policy_head__Dense_0__kernel=(4, 6)), 'head'),
    (
      _tree(classifier__Dense_0__kernel=(6, 6), classifier__Dense_0__bias=(6,),
            classifier__Dense_1__kernel=(6, 3), classifier__Dense_1__bias=(3,)),
      'head',
    ),
    (_tree(head__dense__kernel=(6, 6), head__dense_1__kernel=(6, 3)), 'head'),
    (_tree(head__a__kernel=(6, 6), head__b__kernel=(6, 3)), 'head'),
    (
      {'classifier/~/linear_9': {'w': _ones(4, 6), 'b': _ones(6)},
       'classifier/~/linear_10': {'w': _ones(6, 3), 'b': _ones(3)}},
      'head',
    ),
    (
      _tree(classifier__dense__kernel=(6, 6),
            classifier__out_proj__kernel=(6, 3)),
      'head',
    ),
    (_tree(cls__predictions__transform__dense__kernel=(6, 6)), 'head'),
    (_tree(decoder__logits__out__kernel=(6, 3)), 'head'),
    # A weight of an embedding, or of a layer that makes one.
    (_tree(embed__word__weight=(11, 6)), 'embedding'),
  ],
)  # fmt: skip
def test_layers_in_what_has_the_name_of_a_head_or_embedding(params, said):
  params |= {'w': _ones(4, 6)}
  with pytest.warns(UserWarning, match=f'within an? {said}') as warned:
    assert matrices(params) == {'w': _KERNEL}
  assert len(warned) == 1


@pytest.mark.parametrize(
  'params, expected',
  [
    # Flax's gemma.
    (_tree(attn__q_einsum__w=(4, 6, 3), attn__kv_einsum__w=(2, 1, 6, 3),
           attn__attn_vec_einsum__w=(4, 3, 6)),
     {'attn/q_einsum/w': ((1,), (0, 2)), 'attn/kv_einsum/w': ((2,), (1, 3)),
      'attn/attn_vec_einsum/w': ((0, 1), (2,))}),
    # Tunix and bonsai, of grouped queries.
    (_tree(attn__q_proj__w=(6, 4, 3), attn__k_proj__w=(6, 2, 3),
           attn__o_proj__w=(4, 3, 6)),
     {'attn/q_proj/w': ((0,), (1, 2)), 'attn/k_proj/w': ((0,), (1, 2)),
      'attn/o_proj/w': ((0, 1), (2,))}),
    (_tree(attn__query__kernel=(6, 4, 3),
           attn__attn_out_proj__kernel=(4, 3, 6)),
     {'attn/query/kernel': ((0,), (1, 2)),
      'attn/attn_out_proj/kernel': ((0, 1), (2,))}),
    (_tree(MoeBlock_0__wi_0=(3, 6, 8), MoeBlock_0__wo=(3, 8, 6)),
     {'MoeBlock_0/wi_0': ((1,), (2,)), 'MoeBlock_0/wo': ((1,), (2,))}),
  ],
)  # fmt: skip
def test_programs_by_name(params, expected):
  assert matrices(params, strict=True) == expected


@pytest.mark.parametrize(
  'params',
  [
    # Linen's and MaxText's layers, stacked on axis 1; with as many heads.
    _tree(query__kernel=(32, 4, 4, 8), out__kernel=(4, 4, 8, 32)),
    _tree(query__kernel=(32, 4, 4, 8), query__bias=(4, 4, 8),
          out__kernel=(4, 4, 8, 32), out__bias=(32, 4)),
    _tree(mlp__wi_0__kernel=(32, 4, 64), mlp__wo__kernel=(64, 4, 32)),
    # Plain layers, stacked, with the names of attention.
    _tree(q_proj__kernel=(3, 32, 8), o_proj__kernel=(3, 8, 32)),
    _tree(wq_b__kernel=(8, 4, 12), wkv_b__kernel=(8, 4, 16)),
    _tree(q_proj__kernel_lora_b=(2, 4, 8), stem_conv__kernel=(3, 3, 3, 8)),
  ],
)  # fmt: skip
def test_what_names_do_not_tell(params):
  with pytest.warns(UserWarning, match='NO LEAF IS A MATRIX') as warned:
    assert not matrices(params)
  assert len(warned) == 1
  message = str(warned[0].message)
  assert 'dimension_numbers_by_use' in message
  named = [path for path in params if 'bias' not in path]
  assert all(f"'{path}'" in message for path in named)
  rules = [(f'^{path}$', None) for path in named]
  assert not matrices(params, rules=rules, strict=True)


@pytest.mark.parametrize(
  'w, b, expected',
  [((8, 4), (8,), _ROWS), ((4, 8), (8,), _KERNEL), ((8, 8), (8,), _KERNEL)],
)
def test_pairs_of_a_weight_and_a_bias(w, b, expected):
  pairs = {'mlp': [(_ones(*w), _ones(*b))] * 2}
  with pytest.warns(UserWarning, match='a number for a name'):
    assert list(matrices(pairs).values()) == [expected] * 2
  for names in (('W', 'b'), ('W1', 'b1'), ('w_2', 'b_2'), ('w', 'b')):
    params = _layer(**dict(zip(names, (w, b)))) | {'dense': _layer(w=(3, 4))}
    if names == ('w', 'b') and expected != _KERNEL:
      with pytest.raises(ValueError, match='bias beside it says otherwise'):
        matrices(params, strict=True)
    elif w[0] != w[1] or names == ('w', 'b'):
      assert set(matrices(params, strict=True).values()) == {expected, _KERNEL}
    else:
      with pytest.raises(ValueError, match='fits either axis'):
        matrices(params, strict=True)


def test_convolutions_of_no_library():
  """Two dimensions and no stack; more are not told."""
  params = {'conv': {'w': _ones(3, 3, 4, 6)}}
  assert matrices(params, strict=True) == {'conv/w': ((0, 1, 2), (3,))}
  with pytest.warns(UserWarning, match='conv/w'):
    assert not matrices({'conv': {'w': _ones(2, 3, 3, 4, 6)}})


def test_what_may_be_no_bias():
  two = {'W': _ones(4, 6), 'b': _ones(4, 6)}
  assert matrices(two, strict=True) == dict.fromkeys(two, _KERNEL)
  experts = {'experts': {'W': _ones(3, 4, 6), 'b': _ones(6)}}
  with pytest.warns(UserWarning, match='bias beside it says otherwise'):
    assert not matrices(experts)


def test_at_most_one_axis_above_one():
  params = _tree(last__kernel=(64, 1), dt=(1, 6), x__weight=(6, 1, 1))
  assert not matrices(params, strict=True)
  assert set(why(params).values()) == {'vector'}


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Attention:
  query: jax.Array
  key: jax.Array
  value: jax.Array


def test_a_field_called_value():
  params = {'attn': _Attention(_ones(4, 6), _ones(4, 6), _ones(4, 6))}
  rules = [('^attn/value$', None)]
  found = [route.path for route in optax_namo.routing_table(params)]
  assert found == ['attn/query', 'attn/key', 'attn/value']
  numbers = optax_namo.matrix_dimension_numbers(params, rules=rules)
  assert numbers['attn'].value is None
  assert numbers['attn'].key == MuonDimensionNumbers((0,), (1,))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Wrapped:
  content: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Normalized:
  weight: jax.Array
  scale: jax.Array


_WRAPPERS = {
  'one': _Wrapped,
  'two': lambda x: _Wrapped(_Wrapped(x)),
  'complex': lambda x: {'real': x, 'imaginary': x},
}


@pytest.mark.parametrize('wrap', _WRAPPERS.values(), ids=_WRAPPERS)
def test_wrappers_are_looked_through(wrap):
  bare = {
    'tok': {'embedding': _ones(11, 6)},
    'query': {'kernel': _ones(6, 2, 4), 'bias': _ones(2, 4)},
    'fc': {'weight': _ones(8, 6)},
    'norm': {'scale': _ones(3, 6)},
    'lm_head': {'kernel': _ones(6, 11)},
  }
  tree = jax.tree.map(wrap, bare)
  expected = {'query/kernel': ((0,), (1, 2)), 'fc/weight': _ROWS}
  found = matrices(tree, strict=True)
  assert {'/'.join(p.split('/')[:2]): v for p, v in found.items()} == expected


@pytest.mark.parametrize('name', ['weight', 'w', 'bias'])
def test_layers_called_as_leaves_are_no_wrappers(name):
  params = {name: {'weight': _ones(6, 6), 'bias': _ones(6)}}
  assert matrices(params, strict=True)[f'{name}/weight'] == _ROWS
  params = {name: {'w': _ones(4, 4), 'b': _ones(4)}}
  assert matrices(params, strict=True) == {f'{name}/w': _KERNEL}


def test_a_list_of_boxes_has_no_names():
  with pytest.warns(UserWarning, match='a number for a name'):
    matrices([_Wrapped(_ones(11, 6)), _Wrapped(_ones(6, 8))])


@pytest.mark.parametrize(
  'kernel',
  [
    _Normalized(_ones(4, 6), _ones(1, 6)),  # (in, out) as the kernel is.
    {'weight': _ones(6, 6), 'bias': _ones(6)},  # A layer of this name.
  ],
)
def test_a_weight_in_a_kernel(kernel):
  with pytest.warns(UserWarning, match='a weight in a kernel'):
    assert not matrices({'x': {'kernel': kernel}})


def test_a_rule_that_is_no_regular_expression():
  with pytest.raises(TypeError, match=r'list of pairs.*unterminated'):
    matrices({'w': _ones(4, 6)}, rules=[('(', None)])


def test_a_decoder_that_is_the_model_is_no_last_layer():
  params = {'decoder': _ones(4, 6), 'bias': _ones(6)}
  assert matrices(params, strict=True) == {'decoder': _KERNEL}


@pytest.mark.parametrize('w, expected', [((2, 8), _ROWS), ((8, 2), _KERNEL)])
def test_bo_is_the_bias_of_wo(w, expected):
  params = {'attn': {'wo': _ones(*w), 'bo': _ones(2)}}
  assert matrices(params, strict=True) == {'attn/wo': expected}


def test_no_matrix_is_said_loudly():
  params = {'wte': jnp.ones((9, 4)), 'head': {'kernel': jnp.ones((4, 9))}}
  with pytest.warns(UserWarning, match='NO LEAF IS A MATRIX.*by_use'):
    assert not matrices(params)
  rules = [('wte', None), ('head', None)]  # It was asked for.
  assert not matrices(params, rules=rules, strict=True)


def test_a_model_that_was_flattened_has_no_matrix():
  tx = optax.flatten(optax_namo.namo_d(0.1))
  with pytest.warns(UserWarning, match='NO LEAF IS A MATRIX'):
    tx.init({'w': jnp.ones((2, 3)), 'b': jnp.ones(3)})


def test_an_attention_without_its_other_layers_is_not_told():
  with pytest.warns(UserWarning, match='query/kernel'):
    assert not matrices({'query': {'kernel': jnp.ones((4, 2, 2))}})


def test_the_warning_points_at_the_caller():
  params = {'mix': jnp.ones((2, 3, 4)), 'w': jnp.ones((3, 4))}
  tx = optax.chain(optax_namo.namo_d(0.1))
  for call in (
    lambda: optax_namo.matrix_dimension_numbers(params),
    lambda: optax_namo.routing_table(params),
    lambda: tx.init(params),
    lambda: jax.jit(tx.init)(params),
  ):
    with pytest.warns(UserWarning, match='mix') as warned:
      call()
    assert {one.filename for one in warned} == {__file__}


@pytest.mark.parametrize(
  'path',
  [
    *('emb', 'char_emb', 'W_E', 'W_pos', 'pos', 'position', 'A_log', 'latents'),
    *('register_tokens', 'tokenEmbedding/weight', 'emb/weight'),
    *('tok_emb/embeddings', 'tok', 'tokens', 'token_table', 'vocab'),
    *('positions', 'positional', 'pos_table', 'position_table', 'pos_enc'),
    *('pe', 'rel_pos', 'relative_bias', 'registers', 'prompt', 'codebook'),
    *('codebook/weight', 'pos/embeddings', 'positions/weight', 'emb/table'),
    *('relative_position_bias_table', 'rel_pos_emb', 'time_pos_embs'),
    *('position_encodings', 'query_pos', 'soft_prompt', 'W_U'),
  ],
)
def test_embeddings_and_positions(path):
  assert matrices({path: _ones(6, 4), 'w': _ones(4, 6)}) == {'w': _KERNEL}


@pytest.mark.parametrize(
  'name', ['latent', 'to_tokens', 'cls', 'pos', 'positions']
)
def test_a_bias_beside_it_makes_it_a_layer(name):
  params = {name: {'weight': _ones(6, 4), 'bias': _ones(6)}}
  assert list(matrices(params)) == [f'{name}/weight']
  assert not matrices({name: {'weight': _ones(6, 4)}, 'head': _ones(4, 6)})


@pytest.mark.parametrize(
  'path',
  [
    'time_emb/kernel',
    'position/kernel',
    'rel_pos/kernel',
    'pe/kernel',
    'embed',
  ],
)
def test_layers_that_make_embeddings(path):
  """They have a kernel; what has the whole name has none."""
  found = matrices({path: _ones(6, 4), 'w': _ones(4, 6)})
  assert (path in found) == path.endswith('kernel')


@pytest.mark.parametrize(
  'key',
  [str, lambda path: tuple(path.split('.')), lambda p: p.replace('.', '/')],
)
def test_keys_that_are_paths(key):
  """Checkpoints of PyTorch; flax's flatten_dict, with and without sep."""
  shapes = {
    'model.embed_tokens.weight': (11, 6),
    'model.layers.0.q_proj.weight': (8, 6),
    'model.layers.0.norm.weight': (6,),
    'lm_head.weight': (11, 6),
  }
  params = {key(path): _ones(*shape) for path, shape in shapes.items()}
  assert matrices(params) == {'model/layers/0/q_proj/weight': _ROWS}


def test_a_bias_tells_attention_that_names_do_not():
  """Query and out that share no heads, but a bias that has the query's."""
  params = {
    'query': {'kernel': _ones(3, 3, 6), 'bias': _ones(3, 6)},
    'out': {'kernel': _ones(4, 2, 8), 'bias': _ones(8)},
  }
  assert matrices(params, strict=True) == {
    'query/kernel': ((0,), (1, 2)),
    'out/kernel': ((0, 1), (2,)),
  }


@pytest.mark.parametrize('axis', [0, 1])
def test_a_stack_of_adapters_is_not_told(axis):
  pair = {'lora_a': jnp.ones((6, 3)), 'lora_b': jnp.ones((3, 6))}
  assert matrices(pair) == dict.fromkeys(pair, _KERNEL)
  stack = jax.tree.map(lambda x: jnp.stack([x, x], axis), pair)
  with pytest.warns(UserWarning, match="'lora_a' of shape.*'lora_b'"):
    assert matrices(stack) == {}


def test_a_square_beside_a_bias_may_lie_either_way():
  params = _layer(proj=(4, 4), bias=(4,))
  with pytest.warns(UserWarning, match='fits either axis, taken for a matrix'):
    assert matrices(params) == {'layer/proj': _KERNEL}


def test_a_norm_over_two_axes_makes_no_kernel_a_vector():
  params = {
    'norm': {'scale': _ones(7, 6)},
    'dense': {'kernel': _ones(7, 10)},
  }
  assert matrices(params, strict=True) == {'dense/kernel': _KERNEL}


@pytest.mark.parametrize(
  'shapes, expected',
  [
    # The bias decides.
    ({'weight': (4, 6), 'bias': (4,)}, _ROWS),
    ({'weight': (4, 6), 'bias': (6,)}, _KERNEL),
    ({'kernel': (4, 6), 'bias': (6,)}, _KERNEL),
    ({'w': (4, 6), 'b': (6,)}, _KERNEL),
    ({'proj': (4, 6), 'bias': (4,)}, _ROWS),
    ({'proj': (4, 6), 'bias': (6,)}, _KERNEL),
    # The name, where shapes cannot.
    ({'weight': (4, 4), 'bias': (4,)}, _ROWS),
    ({'weight': (4, 6)}, _ROWS),
    ({'weight_ih': (12, 6), 'weight_hh': (12, 4)}, _ROWS),
    ({'kernel': (4, 4), 'bias': (4,)}, _KERNEL),
    ({'recurrent_kernel': (4, 12), 'bias': (2, 12)}, _KERNEL),
    ({'w': (4, 4), 'b': (4,)}, _KERNEL),
    # Nothing: as ever.
    ({'proj': (4, 6)}, _KERNEL),
    # An adapter's matrices.
    ({'w': (8, 8), 'a': (8, 2), 'b': (2, 8)}, _KERNEL),
  ],
)
def test_rank_2(shapes, expected):
  found = matrices(_layer(**shapes), strict=True)
  is_matrix = lambda name: len(shapes[name]) == 2 and name != 'bias'
  paths = {f'layer/{name}' for name in shapes if is_matrix(name)}
  assert found == dict.fromkeys(paths, expected)


@pytest.mark.parametrize(
  'shapes, expected',
  [
    ({'weight': (8, 4, 3), 'bias': (8,)}, ((1, 2), (0,))),
    ({'weight': (8, 4, 1, 1), 'bias': (8, 1, 1)}, ((1, 2, 3), (0,))),
    ({'weight': (4, 4, 3, 3), 'bias': (4, 1, 1)}, ((1, 2, 3), (0,))),
    ({'weight': (1, 4, 3, 3), 'bias': (1, 1, 1)}, ((1, 2, 3), (0,))),
    # Stacked.
    ({'weight': (2, 8, 4), 'bias': (2, 8)}, ((2,), (1,))),
    ({'weight': (2, 4, 8), 'bias': (2, 8)}, ((1,), (2,))),
    ({'weight': (2, 4, 4), 'bias': (2, 4)}, ((2,), (1,))),
    ({'weight': (2, 8, 4, 3, 3), 'bias': (2, 8, 1, 1)}, ((2, 3, 4), (1,))),
    ({'w': (2, 4, 8), 'b': (2, 8)}, ((1,), (2,))),
    # Flax's Conv(features=1): the bias as it stands; Haiku's NCHW: not so.
    ({'kernel': (3, 3, 4, 1), 'bias': (1,)}, ((0, 1, 2), (3,))),
    ({'w': (3, 3, 4, 8), 'b': (8, 1, 1)}, ((0, 1, 2), (3,))),
  ],
)
def test_rank_3_and_more(shapes, expected):
  (found,) = matrices(_layer(**shapes), strict=True).values()
  assert found == expected


def test_vectors_beside_a_bias_of_their_shape():
  for shape in [(6,), (3, 6), (3, 4, 6)]:
    assert not matrices(_layer(weight=shape, bias=shape), strict=True)
    assert not matrices(_layer(scale=shape, offset=shape), strict=True)
  # Root mean square norms have none.
  assert not matrices({'norm1': {'weight': _ones(3, 6)}}, strict=True)
  assert not matrices({'ln_f': {'w': _ones(3, 6)}}, strict=True)
  assert matrices({'normal_map': {'w': _ones(3, 6)}}, strict=True)


@pytest.mark.parametrize(
  'shapes',
  [
    {'kernel': (4, 6), 'bias': (4,)},
    {'w': (4, 6), 'b': (4,)},
    {'kernel': (4, 6), 'bias': (4, 6)},
    {'kernel': (4, 6), 'bias': (5,)},
  ],
)
def test_a_bias_that_contradicts_the_name(shapes):
  params = _layer(**shapes) | {'other': _layer(**shapes)}
  match = 'the bias beside it says otherwise'
  with pytest.warns(UserWarning, match=match) as warned:
    assert matrices(params) == {}
  assert len(warned) == 1
  with pytest.raises(ValueError, match='dimension_numbers_by_use'):
    routes(params, strict=True)
  assert not matrices(params, rules=[('kernel|w', None)], strict=True)


@pytest.mark.parametrize('leaf', ['weight', 'kernel', 'w', 'mix'])
def test_rank_3_that_nothing_tells(leaf):
  params = _layer(**{leaf: (2, 4, 6)}) | {'dense': {'kernel': _ones(6, 4)}}
  with pytest.raises(ValueError, match='nothing tells its axes'):
    routes(params, strict=True)
  found = matrices(params, rules=[(f'^layer/{leaf}$', None)], strict=True)
  assert found == {'dense/kernel': _KERNEL}


def test_beside_stacked_norms():
  block = {
    'norm': {'scale': _ones(3, 6)},
    'conv': {'Conv_0': {'kernel': _ones(3, 5, 6, 6)}},
    'Dense_0': {'kernel': _ones(3, 6, 8)},
    'fc': {'weight': _ones(3, 8, 6)},
    'gain': _ones(3, 6),
    'bottleneck': {'weight': _ones(3, 10)},
  }
  outer = {
    'norm': {'scale': _ones(6)},
    # As many rows as the stack has layers.
    'stem': {'Conv_0': {'kernel': _ones(3, 3, 6, 6)}},
    'fc': {'weight': _ones(3, 6)},
  }
  untold = (
    'Dense_0/kernel.*bottleneck/weight.*conv/Conv_0/kernel.*fc/weight.*gain'
    '.*fc/weight.*stem/Conv_0/kernel'
  )
  with pytest.warns(UserWarning, match=untold):
    assert not matrices(outer | {'blocks': block})
  square = {'norm': {'scale': _ones(3, 6)}, 'gain': _ones(3, 6)}
  with pytest.warns(UserWarning, match='gain'):
    assert why({'blocks': square})['blocks/gain'] == 'norms beside it'
  outer['norm'] = {'scale': _ones(6)}
  assert matrices(outer, strict=True) == {
    'stem/Conv_0/kernel': ((0, 1, 2), (3,)),
    'fc/weight': _ROWS,
  }


@pytest.mark.parametrize('hidden', [6, 10])
def test_a_stack_along_another_axis_is_not_told(hidden):
  class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
      x = nn.Dense(hidden, use_bias=False)(nn.LayerNorm()(x))
      return nn.Dense(6, use_bias=False)(x), None

  stack = nn.scan(
    Block, length=4, variable_axes={'params': 1}, split_rngs={'params': True}
  )()
  params = jax.eval_shape(stack.init, jax.random.key(0), jnp.ones((1, 6)))
  with pytest.warns(UserWarning, match=f'Dense_0/kernel.*{(6, 4, hidden)}'):
    assert not matrices(params)


class _ConvBlock(nn.Module):
  @nn.compact
  def __call__(self, x, _=None):
    x = nn.Conv(6, (3,), use_bias=False)(nn.LayerNorm()(x))
    return nn.Dense(6, use_bias=False)(x), None


def test_linen_scan_without_biases():
  stack = nn.scan(
    _ConvBlock,
    length=4,
    variable_axes={'params': 0},
    split_rngs={'params': True},
  )()
  params = jax.eval_shape(stack.init, jax.random.key(0), jnp.ones((1, 5, 6)))
  untold = 'Conv_0/kernel.*Dense_0/kernel'
  with pytest.warns(UserWarning, match=untold):
    assert not matrices(params)


def test_a_lifted_convolution_that_no_norm_tells():
  # One in two dimensions with shared parameters has the same name and rank.
  params = {'ScanBlock_0': {'Conv_0': {'kernel': _ones(4, 3, 5, 6)}}}
  params |= {'LayerNorm_0': {'scale': _ones(6)}}
  with pytest.warns(UserWarning, match='ScanBlock_0/Conv_0'):
    assert not matrices(params)
  (kernel,) = matrices({'Block_0': params['ScanBlock_0']}).values()
  assert kernel == ((0, 1, 2), (3,))


def test_nnx_stack_of_a_convolution():
  @nnx.split_rngs(splits=4)
  @nnx.vmap
  def create(rngs):
    return nnx.Dict(conv1d=nnx.Conv(5, 6, (3,), use_bias=False, rngs=rngs))

  state = nnx.state(nnx.eval_shape(lambda: create(nnx.Rngs(0))), nnx.Param)
  with pytest.warns(UserWarning, match='conv1d/kernel'):
    assert not matrices(state)


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass
class NamedArray:
  """A node registered without keys, as Haliax's arrays are."""

  array: jax.Array
  axes: tuple

  def tree_flatten(self):
    return (self.array,), self.axes

  @classmethod
  def tree_unflatten(cls, axes, children):
    return cls(*children, axes)


@pytest.mark.parametrize(
  'box',
  [
    nnx.Param,
    lambda x: nn.Partitioned(x, (None,) * x.ndim),
    lambda x: nnx.Param(nn.LogicallyPartitioned(x, (None,) * x.ndim)),
    lambda x: NamedArray(x, (None,) * x.ndim),
  ],
  ids=['Param', 'Partitioned', 'Param of LogicallyPartitioned', 'NamedArray'],
)
def test_a_box_does_not_hide_a_bias(box):
  params = {
    'rows': {'weight': jnp.ones((3, 6, 4)), 'bias': jnp.ones((3, 6))},
    'dense': {'kernel': jnp.ones((3, 4, 6)), 'bias': jnp.ones((3, 6))},
  }
  expected = {'rows/weight': ((2,), (1,)), 'dense/kernel': ((1,), (2,))}
  boxed = jax.tree.map(box, params)
  assert routes(boxed, strict=True) == routes(params, strict=True)
  assert matrices(boxed) == expected


# Paths and shapes of the variables of Keras 3.15's layers.
_KERAS = {
  'tok/embeddings': ((11, 6), None),
  'layer_normalization/gamma': ((6,), None),
  'layer_normalization/beta': ((6,), None),
  'multi_head_attention/query/kernel': ((6, 2, 4), ((0,), (1, 2))),
  'multi_head_attention/query/bias': ((2, 4), None),
  'multi_head_attention/attention_output/kernel': (
    (2, 4, 6), ((0, 1), (2,))
  ),
  'dense/kernel': ((6, 8), _KERNEL),
  'dense/bias': ((8,), None),
  'conv2d/kernel': ((3, 3, 6, 8), ((0, 1, 2), (3,))),
  'conv2d_transpose/kernel': ((3, 3, 8, 6), ((0, 1, 3), (2,))),
  'conv2d_transpose_1/kernel': ((3, 3, 6, 6), ((0, 1, 3), (2,))),
  'conv2d_transpose_1/bias': ((6,), None),
  'lstm/lstm_cell/kernel': ((6, 20), _KERNEL),
  'lstm/lstm_cell/recurrent_kernel': ((5, 20), _KERNEL),
  'lstm/lstm_cell/bias': ((20,), None),
  'gru/gru_cell/kernel': ((6, 15), _KERNEL),
  'gru/gru_cell/recurrent_kernel': ((5, 15), _KERNEL),
  'gru/gru_cell/bias': ((2, 15), None),
  'logits/kernel': ((6, 11), None),
}  # fmt: skip


def test_keras_by_path():
  params = {path: _ones(*shape) for path, (shape, _) in _KERAS.items()}
  expected = {path: numbers for path, (_, numbers) in _KERAS.items()}
  assert routes(params, strict=True) == expected
  # Its lists of values have no names; the numbers of their paths will do.
  numbers = optax_namo.matrix_dimension_numbers(params)
  table = optax_namo.routing_table(
    list(params.values()), [numbers[path] for path in params]
  )
  is_matrix = [numbers is not None for numbers in expected.values()]
  assert [route.group == 'matrix' for route in table] == is_matrix


@pytest.mark.parametrize('within', [lambda x: x, lambda x: {'model': x}])
def test_leaves_with_numbers_for_names(within):
  # What a Keras model's list of variables has: an embedding, a layer.
  params = within([_ones(11, 6), _ones(6, 8), _ones(8)])
  with pytest.warns(UserWarning, match='a number for a name') as warned:
    assert list(matrices(params).values()) == [_KERNEL, _KERNEL]
  assert len(warned) == 1
  with pytest.raises(ValueError, match='a number for a name'):
    routes(params, strict=True)
  rules = [('0', None), ('1', MuonDimensionNumbers(0, 1))]
  assert list(matrices(params, rules=rules, strict=True).values()) == [_KERNEL]
  kernel = within([_ones(3, 3, 4, 6), _ones(6, 8)])
  with pytest.warns(UserWarning, match='0.* of shape .*nothing tells its axes'):
    assert list(matrices(kernel).values()) == [_KERNEL]
  # A name that is missing says nothing about one array.
  assert matrices(_ones(4, 6), strict=True) == {'': _KERNEL}


def test_why():
  params = {
    'wte': _ones(9, 4),
    'a': {'kernel': _ones(4, 6), 'bias': _ones(6)},
    'b': {'weight': _ones(6, 4)},
    'c': {
      'query': {'kernel': _ones(4, 2, 2)},
      'out': {'kernel': _ones(2, 2, 4)},
    },
    'd': {'proj': _ones(4, 6), 'gain': _ones(4)},
    'e': {'weight': _ones(3, 6), 'bias': _ones(3, 6)},
    'mix': _ones(2, 4, 6),
  }
  rules = [(r'^mix$', MuonDimensionNumbers(1, 2))]
  assert why(params, rules=rules) == {
    'wte': 'embedding',
    'a/kernel': 'bias',
    'a/bias': 'bias',
    'b/weight': 'name weight',
    'c/out/kernel': 'attention',
    'c/query/kernel': 'attention',
    'd/proj': 'rank 2',
    'd/gain': 'rank 1',
    'e/weight': 'bias of its shape',
    'e/bias': 'bias',
    'mix': 'rule ^mix$',
  }
  given = {'a': MuonDimensionNumbers(0, 1), 'b': None}
  table = optax_namo.routing_table({'a': _ones(2, 3), 'b': _ones(2)}, given)
  assert [route.why for route in table] == ['given', 'given']
  assert table[0]._fields[-1] == 'why'
  assert re.search(r'^path .* why +size$', str(table), re.MULTILINE)


def test_paths_that_read_alike():
  """Each leaf is judged by its own shape and by what lies beside it."""
  params = {
    'a/kernel': jnp.ones((4, 6)),
    'a/bias': jnp.ones(6),
    'a': {'kernel': jnp.ones((3, 5, 7, 2)), 'bias': jnp.ones(2)},
  }
  numbers = optax_namo.matrix_dimension_numbers(params, strict=True)
  assert numbers['a/kernel'] == MuonDimensionNumbers((0,), (1,))
  assert numbers['a']['kernel'] == MuonDimensionNumbers((0, 1, 2), (3,))
  assert numbers['a/bias'] is numbers['a']['bias'] is None


def test_a_norm_without_axes():
  """As a framework's own variables may look."""
  params = {'norm': {'gamma': jnp.ones(())}, 'd': {'kernel': jnp.ones((3, 4))}}
  numbers = optax_namo.matrix_dimension_numbers(params, strict=True)
  assert numbers['norm']['gamma'] is None
  assert numbers['d']['kernel'] == MuonDimensionNumbers((0,), (1,))


def test_leaves_alike_are_named_once():
  params = {f'h{i}': {'mix': jnp.ones((2, 3, 4))} for i in range(28)}
  with pytest.warns(UserWarning) as told:
    optax_namo.matrix_dimension_numbers(params)
  message = str(told[0].message)
  assert "'h0/mix' and 27 like it" in message
  assert len(message) < 400
