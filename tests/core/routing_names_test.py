# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What names, biases and norms tell the router where no type does.

Expectations are ``(reduction axes, output axes)``; leaves without are AdamW's.
"""

import pytest

from tests.core.routes import matrices
from tests.core.routes import ones
from tests.core.routes import why

pytestmark = pytest.mark.filterwarnings(
  'error::UserWarning', 'ignore:NO LEAF IS A MATRIX.*If some are:UserWarning'
)

_KERNEL, _ROWS = ((0,), (1,)), ((1,), (0,))


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
  params = {name: {'kernel': ones(4, 6), 'gate': ones(3, 6)}}
  expected = {f'{name}/gate': _KERNEL, f'{name}/kernel': _KERNEL}
  assert matrices(params, strict=True) == (expected if matrix else {})


def _tree(**shapes):
  """Of names such as head__kernel."""
  return {
    name.replace('__', '/'): ones(*shape) for name, shape in shapes.items()
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
      {'classifier/~/linear_9': {'w': ones(4, 6), 'b': ones(6)},
       'classifier/~/linear_10': {'w': ones(6, 3), 'b': ones(3)}},
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
  params |= {'w': ones(4, 6)}
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


def test_at_most_one_axis_above_one():
  params = _tree(last__kernel=(64, 1), dt=(1, 6), x__weight=(6, 1, 1))
  assert not matrices(params, strict=True)
  assert set(why(params).values()) == {'vector'}


def test_a_decoder_that_is_the_model_is_no_last_layer():
  params = {'decoder': ones(4, 6), 'bias': ones(6)}
  assert matrices(params, strict=True) == {'decoder': _KERNEL}


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
  assert matrices({path: ones(6, 4), 'w': ones(4, 6)}) == {'w': _KERNEL}


@pytest.mark.parametrize(
  'name', ['latent', 'to_tokens', 'cls', 'pos', 'positions']
)
def test_a_bias_beside_it_makes_it_a_layer(name):
  params = {name: {'weight': ones(6, 4), 'bias': ones(6)}}
  assert list(matrices(params)) == [f'{name}/weight']
  assert not matrices({name: {'weight': ones(6, 4)}, 'head': ones(4, 6)})


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
  found = matrices({path: ones(6, 4), 'w': ones(4, 6)})
  assert (path in found) == path.endswith('kernel')
