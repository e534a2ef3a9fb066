#!/usr/bin/env python3
"""Makes the golden fixtures of images: of the part of Gemma 3 that sees, and of what processors make of pixels.

  $(tests/tools/setup.sh golden) tests/tools/golden_images.py gemma3vl --out tests/golden
  $(tests/tools/setup.sh golden) tests/tools/golden_images.py pixels --out tests/golden

The first writes gemma3vl.gguf, mmproj-gemma3vl.gguf and gemma3vl.json, the second pixels.json; tests/golden/README.md describes
them.
"""
import argparse, copy, hashlib, json, os, sys
from dataclasses import replace
from importlib.metadata import version

import golden
from golden import Float64, Unfit, Vocabulary, array, digits
from golden_archs import ARCHS

try:
    import gguf, numpy, torch, transformers
    from PIL import Image
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
except ImportError as e:
    sys.exit(f'golden: {e}; run: $(tests/tools/setup.sh golden) {" ".join(sys.argv)}')

# A query of a layer with a window sees more than an image, and less than a prompt.
TEXT = dict(sliding_window=12, num_hidden_layers=7, max_position_embeddings=512, intermediate_size=96)
# 12 by 12 patches, of which 4 by 4 make a row; heads that are no power of 2.
VISION = dict(hidden_size=36, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3, image_size=96, patch_size=8,
              layer_norm_eps=1e-6, vision_use_head=False)
ROWS = 9
# Width and height: one is made larger, one larger and smaller.
IMAGES = [(48, 32), (130, 20)]
MARKERS = ['<start_of_image>', '<end_of_image>', '<image_soft_token>']
BEFORE, AFTER = 4, 12
# The vocabulary has it as a byte.
NEWLINE = 16
LEAST_MARGIN, STEPS = 0.02, 8

NAMES = {
    'embeddings.patch_embedding': 'v.patch_embd',
    'embeddings.position_embedding': 'v.position_embd',
    'post_layernorm': 'v.post_ln',
    'layer_norm1': 'ln1', 'layer_norm2': 'ln2',
    'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k', 'self_attn.v_proj': 'attn_v', 'self_attn.out_proj': 'attn_out',
    'mlp.fc1': 'ffn_up', 'mlp.fc2': 'ffn_down',
}


class Markers(Vocabulary):
    """The vocabulary of gemma3, with what stands around an image in place of its last tokens, which are letters."""

    def write(self, writer):
        changed = {'tokenizer.ggml.tokens': MARKERS, 'tokenizer.ggml.token_type': [3] * len(MARKERS)}
        for key, f in self.fields.items():
            value = f.contents()
            value = value[:-len(MARKERS)] + changed[key] if key in changed else value
            writer.add_key_value(key, value, f.types[0], f.types[-1] if len(f.types) > 1 else None)


def tensor(parameter):
    """The tensor of a parameter of the tower."""
    parts, suffix = parameter.removeprefix('vision_model.').rsplit('.', 1)
    if parts.startswith('encoder.layers.'):
        _, _, layer, stem = parts.split('.', 3)
        return f'v.blk.{layer}.{NAMES[stem]}.{suffix}'
    return f'{NAMES[parts]}.{suffix}'


def random_tower(tower, projector, seed):
    torch.manual_seed(seed)
    for name, w in sorted(tower.named_parameters()):
        r = torch.randn(w.shape)
        if 'norm' in name and name.endswith('weight'):
            r = torch.round((1 + r / 4) * 256) / 256
        elif w.ndim == 1:
            r /= 4
        elif 'position' in name:
            r /= 2
        elif 'patch' in name:
            r *= 2 / (w[0].numel() ** 0.5)
        else:
            r = (r / w.shape[-1] ** 0.5).half()
        w.data.copy_(r)
    # An added 1 stays exact.
    norm = projector.mm_soft_emb_norm.weight
    norm.data.copy_(torch.round(torch.randn(norm.shape) / 4 * 256) / 256)
    w = projector.mm_input_projection_weight
    # As large as the embeddings of tokens are after their scale.
    w.data.copy_((torch.randn(w.shape) * 2 / w.shape[0] ** 0.5).half())


def write_mmproj(path, model, c):
    kinds, quants = gguf.GGUFValueType, gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(path, 'clip')
    writer.add_type('mmproj')
    writer.add_name('gemma3vl')
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_bool('clip.has_vision_encoder', True)
    writer.add_string('clip.projector_type', 'gemma3')
    writer.add_bool('clip.use_gelu', True)
    v = c.vision_config
    for key, value in [('projection_dim', c.text_config.hidden_size), ('image_size', v.image_size), ('patch_size', v.patch_size),
                       ('embedding_length', v.hidden_size), ('feed_forward_length', v.intermediate_size),
                       ('block_count', v.num_hidden_layers), ('attention.head_count', v.num_attention_heads)]:
        writer.add_uint32(f'clip.vision.{key}', value)
    writer.add_float32('clip.vision.attention.layer_norm_epsilon', v.layer_norm_eps)
    for key in 'image_mean', 'image_std':
        writer.add_key_value(f'clip.vision.{key}', [0.5] * 3, kinds.ARRAY, kinds.FLOAT32)
    projector = model.model.multi_modal_projector
    tensors = {tensor(name): w.data for name, w in model.model.vision_tower.named_parameters()}
    tensors['mm.soft_emb_norm.weight'] = projector.mm_soft_emb_norm.weight.data + 1
    tensors['mm.input_projection.weight'] = projector.mm_input_projection_weight.data
    for name, w in tensors.items():
        kind = quants.F32 if w.ndim == 1 or 'embd' in name else quants.F16
        writer.add_tensor(name, gguf.quants.quantize(w.float().contiguous().numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def picture(width, height, seed):
    """Fine and coarse parts, by a formula that tests have too. Each channel of each pixel is one draw."""
    state, values = seed, []
    for i in range(width * height * 3):
        state = (state * 1103515245 + 12345) & 0x7fffffff
        values.append(state >> 16 & 255 if i // 12 % 2 else i * 7 & 255)
    return numpy.array(values, dtype=numpy.uint8).reshape(height, width, 3)


def process(pixels, size):
    processor = Gemma3ImageProcessorPil(size={'height': size, 'width': size})
    return processor(Image.fromarray(pixels), return_tensors='pt').pixel_values


class Tower:
    """The hidden states of a tower."""

    def __init__(self, tower):
        inner = getattr(tower, 'vision_model', tower)
        self.values = {}
        keep = lambda key: lambda m, args, out: self.values.__setitem__(key, out[0] if isinstance(out, tuple) else out)
        inner.embeddings.register_forward_hook(keep('embd'))
        for i, layer in enumerate(inner.encoder.layers):
            layer.register_forward_hook(keep(i))

    def blocks(self, order):
        n = len(self.values) - 1
        return [array(self.values[i].reshape(-1, self.values[i].shape[-1])[order]) for i in range(n)]


@torch.no_grad()
def logits(model, ids, pixels, token):
    """With the rows of the image in place of its tokens, and a mask that lets them see each other."""
    ids = torch.tensor([ids])
    kinds = (ids == token).long()
    out = model(input_ids=ids, pixel_values=pixels, token_type_ids=kinds, use_cache=False)
    return out.logits[0]


@torch.no_grad()
def case(model, exact, watch, image, token, seed):
    width, height = IMAGES[image]
    pixels = picture(width, height, seed)
    values = process(pixels, VISION['image_size'])
    rows = model.model.get_image_features(values, return_dict=True).pooler_output[0]
    side = VISION['image_size'] // VISION['patch_size']
    merge = side // int(ROWS ** 0.5)
    # Square by square, as the engine has patches.
    order = torch.arange(side * side).reshape(side // merge, merge, side // merge, merge).transpose(1, 2).flatten()
    ordinary = torch.randint(262, 360, (BEFORE + AFTER,)).tolist()
    # As the processor of Gemma 3 has it: in a paragraph of its own.
    paragraph = [NEWLINE] * 2
    ids = [*ordinary[:BEFORE], *paragraph, token - 2, *[token] * ROWS, token - 1, *paragraph, *ordinary[BEFORE:]]
    blocks = watch.blocks(order)
    all_logits = logits(model, ids, values, token)
    with Float64():
        wide = exact.model.get_image_features(values.double(), return_dict=True).pooler_output[0]
        off = ((wide - rows).abs().max() / wide.abs().max()).item()
        rounding = (logits(exact, ids, values.double(), token) - all_logits).abs().max().item()
    if rounding > golden.MOST_ROUNDING:
        raise Unfit(f'float32 changes logits by {rounding:.1e}')
    tokens, margins, run = [], [], list(ids)
    for _ in range(STEPS):
        (best, second), (next_token, _) = (t.tolist() for t in logits(model, run, values, token)[-1].topk(2))
        if best - second <= LEAST_MARGIN or next_token == token:
            raise Unfit(f'two tokens are {best - second:.4f} apart')
        tokens.append(next_token)
        margins.append(round(best - second, 5))
        run.append(next_token)
    if len(set(tokens)) < 4:
        raise Unfit(f'only {len(set(tokens))} of {STEPS} greedy tokens are different')
    patch = values[0, :, :VISION['patch_size'], :VISION['patch_size']]
    measured = dict(rows_absmax=digits(rows.abs().max().item()), rows_f64=off, logits_f64=rounding, margin=min(margins))
    return measured, {
        'image': {'height': height, 'width': width, 'rgb_u8_hex': pixels.tobytes().hex()},
        'grid_thw': [1, side, side],
        'first_patch_values': array(patch),
        # The other case has the same layers.
        'blocks_out': blocks if image == 0 else [],
        'image_embeds': array(rows), 'deepstack': [],
        'ids': ids, 'position_ids': [list(range(len(ids)))] * 3,
        'logits_all': array(all_logits), 'logits_last': array(all_logits[-1]),
        'greedy': {'tokens': tokens, 'margins': margins},
    }


def gemma3vl(out, tries):
    name, arch = 'gemma3vl', ARCHS['gemma3']
    paths = [os.path.join(out, file) for file in (f'{name}.gguf', f'mmproj-{name}.gguf', f'{name}.json')]
    for path in filter(os.path.exists, paths):
        sys.exit(f'golden: {path} is there already; remove it')
    vocabulary = Markers(arch.vocab)
    text_config = golden.config_of(replace(arch, tiny={**arch.tiny, **TEXT}), None, vocabulary)
    token = text_config.vocab_size - 1
    config = transformers.Gemma3Config(
        text_config=text_config.to_dict(), vision_config=dict(VISION, model_type='siglip_vision_model'),
        mm_tokens_per_image=ROWS, image_token_index=token, boi_token_index=token - 2, eoi_token_index=token - 1)
    config._attn_implementation = 'eager'
    text = transformers.AutoModelForCausalLM.from_config(text_config, attn_implementation='eager').eval()
    model = transformers.Gemma3ForConditionalGeneration._from_config(config, attn_implementation='eager').eval()
    watch = Tower(model.model.vision_tower)
    for seed in range(1, 1 + tries):
        golden.random_weights(arch, text, seed, torch.float16)
        model.model.language_model.load_state_dict(text.model.state_dict())
        model.lm_head.weight = model.model.language_model.embed_tokens.weight
        random_tower(model.model.vision_tower, model.model.multi_modal_projector, seed)
        exact = copy.deepcopy(model).double()
        try:
            cases = [case(model, exact, watch, i, token, seed + i) for i in range(len(IMAGES))]
            break
        except Unfit as e:
            print(f'golden: seed {seed}: {e}', file=sys.stderr)
    else:
        sys.exit('golden: no seed will do')
    golden.write_gguf(paths[0], name, 'gemma3', text, vocabulary, 'f16')
    write_mmproj(paths[1], model, config)
    measured = [m for m, _ in cases]
    fixture = {
        'fixture': name, 'gguf': f'{name}.gguf', 'mmproj': f'mmproj-{name}.gguf', 'weights': 'f16',
        'hf_class': type(model).__name__, 'seed': seed,
        'versions': {p: version(p).split('+')[0] for p in ('transformers', 'torch', 'gguf', 'pillow')},
        'measured': measured, 'image_token_id': token, 'cases': [c for _, c in cases],
    }
    with open(paths[2], 'w') as f:
        json.dump(fixture, f, ensure_ascii=False, separators=(',', ':'))
    for path in paths:
        print(f'{path} ({os.path.getsize(path) // 1024} KB)')
    print(f'seed {seed}, {measured}')


# Width and height of images; odd, tiny, long, larger and smaller than what they become.
SIZES = [(1, 1), (3, 2), (17, 31), (33, 33), (97, 41), (41, 97), (200, 3), (5, 260), (127, 129), (255, 64), (64, 255), (301, 203),
         (96, 96), (95, 97), (640, 13), (11, 480), (321, 239), (111, 333), (500, 37), (223, 225)]
SAMPLES = 12


def pixels(out, _):
    path = os.path.join(out, 'pixels.json')
    if os.path.exists(path):
        sys.exit(f'golden: {path} is there already; remove it')
    processors = {
        # Side of a patch, patches along a side of what makes a row, and the sizes that are allowed.
        'qwen': (Qwen2VLImageProcessorPil(
            patch_size=16, merge_size=2, temporal_patch_size=1, image_mean=[0.5] * 3, image_std=[0.5] * 3,
            size={'shortest_edge': 64 * 64, 'longest_edge': 320 * 320})),
        'gemma': Gemma3ImageProcessorPil(size={'height': 224, 'width': 224}),
    }
    images = []
    for i, (width, height) in enumerate(SIZES):
        image, found = picture(width, height, 1000 + i), {}
        for name, processor in processors.items():
            result = processor(Image.fromarray(image), return_tensors='np')
            values = numpy.asarray(result['pixel_values'], dtype=numpy.float32)
            grid = result['image_grid_thw'][0][1:].tolist() if name == 'qwen' else [224 // 16] * 2
            flat = values.reshape(-1)
            at = [(k * 7919 + 13) % flat.size for k in range(SAMPLES)]
            # As bytes, they are what resampling made.
            bytes_of = numpy.round((flat.astype(numpy.float64) * 0.5 + 0.5) * 255).astype(numpy.uint8).tobytes()
            found[name] = {
                'patches': grid, 'sha256': hashlib.sha256(bytes_of).hexdigest(),
                'sum': digits(float(flat.astype(numpy.float64).sum())),
                'samples': [[a, digits(float(flat[a]))] for a in at],
            }
        images.append({'width': width, 'height': height, 'seed': 1000 + i, **found})
    fixture = {'versions': {p: version(p).split('+')[0] for p in ('transformers', 'numpy', 'pillow')},
               'qwen': {'patch': 16, 'merge': 2, 'min_pixels': 64 * 64, 'max_pixels': 320 * 320},
               'gemma': {'size': 224}, 'images': images}
    with open(path, 'w') as f:
        json.dump(fixture, f, separators=(',', ':'))
    print(f'{path} ({os.path.getsize(path) // 1024} KB)')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['gemma3vl', 'pixels'])
    parser.add_argument('--out', default='.', metavar='DIR', help='folder of the files (default: this one)')
    parser.add_argument('--tries', type=int, default=200, help='how many seeds to try (default: 200)')
    args = parser.parse_args()
    {'gemma3vl': gemma3vl, 'pixels': pixels}[args.what](args.out, args.tries)


if __name__ == '__main__':
    main()
