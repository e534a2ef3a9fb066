#!/usr/bin/env python3
"""Makes a golden fixture: a tiny GGUF file with random weights, and the numbers that transformers computes from them.

  $(tests/tools/setup.sh golden) tests/tools/golden.py qwen2moe --out tests/golden

This writes qwen2moe.gguf and qwen2moe.json; tests/golden/README.md describes both. `setup.sh golden` installs the
packages and prints the Python that has them.

A new architecture is an entry of the table in golden_archs.py.
"""
import argparse, copy, itertools, json, os, re, sys
from importlib.metadata import version

try:
    import gguf, torch, transformers
    from torch.overrides import TorchFunctionMode
except ImportError as e:
    sys.exit(f'golden: {e}; run: $(tests/tools/setup.sh golden) {" ".join(sys.argv)}')

from golden_archs import ARCHS, KEYS, NAMES, TINY

torch.set_num_threads(1)  # More only get in each other's way at these sizes.
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'golden')

# What seeds are chosen by. Another engine may differ by 3e-4 and must still take the same tokens and experts.
LEAST_MARGIN, LEAST_ROUTER_GAP, MOST_ROUNDING, LEAST_TOKENS = 0.02, 1e-3, 1e-4, 8

# Of a config: what is written elsewhere.
NOT_SHOWN = ('transformers_version', 'dense')


class Vocabulary:
    """The tokenizer of another fixture."""

    def __init__(self, fixture):
        fields = gguf.GGUFReader(os.path.join(GOLDEN, f'{fixture}.gguf')).fields
        self.fields = {key: f for key, f in fields.items() if key.startswith('tokenizer.')}
        with open(os.path.join(GOLDEN, f'{fixture}.json')) as f:
            self.cases = json.load(f)['tokenizer_cases']

    def config(self):
        """The part of a model's config that it decides."""
        ids = {'bos': 'bos', 'eos': 'eos', 'pad': 'padding'}
        found = {f'{hf}_token_id': self.fields.get(f'tokenizer.ggml.{name}_token_id') for hf, name in ids.items()}
        size = len(self.fields['tokenizer.ggml.tokens'].data)
        return {'vocab_size': size, **{key: f and int(f.contents()) for key, f in found.items()}}

    def write(self, writer):
        for key, f in self.fields.items():
            writer.add_key_value(key, f.contents(), f.types[0], f.types[-1] if len(f.types) > 1 else None)


def config_of(arch, file, vocabulary):
    values = {**TINY, **arch.tiny}
    if file:
        with open(file) as f:
            values = json.load(f)
        values = values.get('config', values)
        if (found := values.pop('model_type', None)) != arch.model_type:
            sys.exit(f'golden: {file} is of model_type {found}, not {arch.model_type}')
    implied = arch.implied(values)
    values = {key: v for key, v in {**implied, **values, **vocabulary.config()}.items() if v is not None}
    for key, v in implied.items():
        if values[key] != v:
            sys.exit(f'golden: {key} is {values[key]}, and no key of the file says so; it must be {v}')
    config = transformers.AutoConfig.for_model(arch.model_type, **values)
    config.dense = arch.dense
    config._experts_implementation = 'eager'
    return config


def tensor_names(arch, parameter):
    """The tensors that a parameter is stored in."""
    layer, stem, suffix = re.fullmatch(r'(?:model\.)?(?:layers\.(\d+)\.)?(.*?)(\.weight|\.bias)?', parameter).groups()
    names = {**NAMES, **arch.names}.get(stem)
    if names is None:
        sys.exit(f'golden: no tensor is named for {parameter}; add `{stem}` to the names in golden_archs.py')
    names = names if isinstance(names, tuple) else (names,)
    return [('' if layer is None else f'blk.{layer}.') + name + (suffix or '') for name in names]


def base(tensor):
    return re.sub(r'^blk\.\d+\.|\.weight$|\.bias$', '', tensor)


def stays_f32(tensor, w):
    """As llama.cpp's loaders expect it of files of any type."""
    return w.ndim == 1 or base(tensor).startswith('ffn_gate_inp') or base(tensor) == 'ssm_conv1d'


def random_weights(arch, model, seed, dtype):
    """Logits of a spread of about 2 in which every layer has its say, and values that are exact in the file's type."""
    torch.manual_seed(seed)
    for parameter, w in sorted(model.named_parameters()):
        tensor = tensor_names(arch, parameter)[0]
        r, name = torch.randn(w.shape), base(tensor)
        if name.endswith('norm'):
            # A multiple of 1/256, so that adding the offset is exact. Small embeddings are made up for at the output.
            r = (1 + r / 4) * (8 if name == 'output_norm' else 1)
            r = torch.round(r * 256) / 256 - (0 if name == 'ssm_norm' else arch.norm_offset)
        elif name == 'ssm_a':
            r = torch.rand(w.shape) * 3 - 2
        elif w.ndim == 1:
            r /= 4
        else:
            gain = {'token_embd': 0.25, 'output': 0.25, 'ffn_gate_inp': 2}.get(name, 1)
            gain = 2 if re.match('attn_output|ffn_down|ssm_out', name) else gain
            r *= gain / w.shape[-1] ** 0.5
            r = r if stays_f32(tensor, w) else r.to(dtype)
        w.data.copy_(r)


def tensors_of(arch, model):
    """Name and values of every tensor, as the file holds them."""
    config, rotary = model.config, model.model.rotary_emb
    if config.rope_parameters.get('rope_type') == 'llama3':
        d = 2 * len(rotary.inv_freq)
        plain = config.rope_parameters['rope_theta'] ** -(torch.arange(0, d, 2) / d)
        yield 'rope_freqs.weight', plain / rotary.inv_freq
    for parameter, w in model.named_parameters():
        names = tensor_names(arch, parameter)
        for name, w in zip(names, w.data.chunk(len(names), dim=-2) if len(names) > 1 else [w.data]):
            if base(name).endswith('norm') and base(name) != 'ssm_norm':
                w = w + arch.norm_offset
            yield name, arch.stored.get(base(name), lambda c, w: w)(config, w)


def keys_of(arch, config):
    keys = {key: v for attribute, keys in KEYS.items() if (v := getattr(config, attribute, None)) for key in keys}
    rope = config.rope_parameters
    if 'full_attention' in rope:
        keys['rope.freq_base_swa'] = rope['sliding_attention']['rope_theta']
        rope = rope['full_attention']
    keys['rope.freq_base'] = rope['rope_theta']
    if rope['rope_type'] == 'linear':
        keys |= {'rope.scaling.type': 'linear', 'rope.scaling.factor': rope['factor']}
    elif rope['rope_type'] not in ('default', 'llama3'):
        sys.exit(f'golden: nothing is known here of RoPE scaling {rope["rope_type"]}; add it to keys_of')
    return {key: v for key, v in {**keys, **arch.keys(config)}.items() if v is not None}


def write_gguf(path, name, arch_name, model, vocabulary, weights):
    arch, kinds = ARCHS[arch_name], gguf.GGUFValueType
    types = {bool: kinds.BOOL, int: kinds.UINT32, float: kinds.FLOAT32, str: kinds.STRING}
    file_type = {'f32': 'ALL_F32', 'f16': 'MOSTLY_F16', 'bf16': 'MOSTLY_BF16'}[weights]
    writer = gguf.GGUFWriter(path, arch_name)
    writer.add_type('model')
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in keys_of(arch, model.config).items():
        if isinstance(value, list):
            item = kinds.BOOL if isinstance(value[0], bool) else kinds.INT32
            writer.add_key_value(f'{arch_name}.{key}', value, kinds.ARRAY, item)
        else:
            writer.add_key_value(f'{arch_name}.{key}', value, types[type(value)])
    vocabulary.write(writer)
    for tensor, w in tensors_of(arch, model):
        kind = gguf.GGMLQuantizationType['F32' if stays_f32(tensor, w) else weights.upper()]
        writer.add_tensor(tensor, gguf.quants.quantize(w.float().contiguous().numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Float64(TorchFunctionMode):
    """Lets a model in float64 have nothing in float32: norms and softmax of transformers ask for that by name."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        wide = lambda v: torch.float64 if v is torch.float32 else v
        function = torch.Tensor.double if function is torch.Tensor.float else function
        return function(*map(wide, args), **{key: wide(v) for key, v in (kwargs or {}).items()})


class Embedder(torch.nn.Module):
    """A model without a head, and matrices that follow the mean of its last hidden states, named as in the file."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = transformers.AutoModel.from_config(config, attn_implementation='eager')
        self.dense = []
        for i, (d_in, d_out) in enumerate(zip([config.hidden_size, *config.dense], config.dense), 2):
            self.dense.append(f'dense_{i}')
            setattr(self, f'dense_{i}', torch.nn.Linear(d_in, d_out, bias=False))

    @torch.no_grad()
    def embedding(self, ids):
        """In the order of sentence-transformers: mean, matrices, a length of 1."""
        x = self.model(torch.tensor([ids]), use_cache=False).last_hidden_state[0].mean(0)
        for name in self.dense:
            x = getattr(self, name)(x)
        return x / x.norm()


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0]


class Watch:
    """What goes through a model: its layers' values of the last pass, and the closest choice of experts of all."""

    def __init__(self, model):
        self.values, self.gap, self.n_layer = {}, float('inf'), len(model.model.layers)
        model.model.norm.register_forward_hook(self.keep('norm'))
        for i, layer in enumerate(model.model.layers):
            if i == 0:
                keep = self.keep('embd')
                layer.register_forward_pre_hook(lambda m, args: keep(m, (), args))
            mixer = getattr(layer, 'self_attn', None) or layer.linear_attn
            for part, key in (mixer, 'attn_out'), (layer.mlp, 'mlp_out'), (layer, 'out'):
                part.register_forward_hook(self.keep((i, key)))
            if hasattr(layer.mlp, 'experts'):
                layer.mlp.gate.register_forward_hook(self.route)

    def keep(self, key):
        def hook(module, args, output):
            self.values[key] = (output[0] if isinstance(output, tuple) else output).flatten(0, -2)
        return hook

    def route(self, router, args, output):
        best = output[0].sort(-1, descending=True).values
        self.gap = min(self.gap, (best[:, router.top_k - 1] - best[:, router.top_k]).min().item())

    def hidden(self):
        value = lambda key: array(self.values[key])
        layers = [{key: value((i, key)) for key in ('attn_out', 'mlp_out', 'out')} for i in range(self.n_layer)]
        return {'embd': value('embd'), 'norm': value('norm'), 'layers': layers}


class Unfit(Exception):
    """Why a seed is not taken."""


def digits(v):
    return float(f'{v:.7g}')


def array(t):
    return {'shape': list(t.shape), 'data': [digits(v) for v in t.flatten().tolist()]}


def greedy(model, ids, steps=16):
    """The most likely next tokens, the whole sequence computed anew for each."""
    tokens, margins = [], []
    while len(tokens) < steps:
        (best, second), (token, _) = (t.tolist() for t in logits(model, ids + tokens)[-1].topk(2))
        if best - second <= LEAST_MARGIN:
            raise Unfit(f'two tokens are {best - second:.4f} apart at step {len(tokens)} after {len(ids)} tokens')
        tokens.append(token)
        margins.append(round(best - second, 5))
    if (different := len(set(tokens))) < LEAST_TOKENS:
        raise Unfit(f'only {different} of {steps} greedy tokens are different')
    return {'tokens': tokens, 'margins': margins}


def numbers(model, watch):
    """The prompts with everything that is computed from them, and what was measured."""
    prompts, largest, rounding = [], 0.0, 0.0
    exact = copy.deepcopy(model).double()
    for n in 5, 24, 70:
        prompt = {'ids': torch.randint(model.config.vocab_size, (n,)).tolist()}
        rows = logits(model, prompt['ids'])
        hidden = watch.hidden()
        with Float64():
            rounding = max(rounding, (logits(exact, prompt['ids']) - rows).abs().max().item())
        largest = max(largest, rows.abs().max().item())
        prompt['logits_last'] = array(rows[-1])
        if n < 70:
            prompt['logits_all'] = array(rows)
            prompt['greedy'] = greedy(model, prompt['ids'])
        if n == 5:
            prompt['hidden'] = hidden
        prompts.append(prompt)
    if watch.gap < LEAST_ROUTER_GAP:
        raise Unfit(f'the router took an expert that is {watch.gap:.4f} before the next')
    if rounding > MOST_ROUNDING:
        raise Unfit(f'float32 changes logits by {rounding:.1e}')
    margin = min(min(p['greedy']['margins']) for p in prompts[:2])
    measured = {'logit_absmax': digits(largest), 'greedy_min_margin': margin, 'f64_max_abs_diff': rounding}
    if watch.gap != float('inf'):
        measured['router_min_gap'] = round(watch.gap, 5)
    return prompts, measured


def embeddings(model, watch):
    """The same of a model that makes embeddings."""
    prompts, rounding = [], 0.0
    exact = copy.deepcopy(model).double()
    for n in 5, 24, 70:
        prompt = {'ids': torch.randint(model.config.vocab_size, (n,)).tolist()}
        row = model.embedding(prompt['ids'])
        prompt['embedding'] = array(row)
        if n == 5:
            prompt['hidden'] = watch.hidden()
        with Float64():
            rounding = max(rounding, (exact.embedding(prompt['ids']) - row).abs().max().item())
        prompts.append(prompt)
    return prompts, {'f64_max_abs_diff': rounding}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('arch', choices=ARCHS)
    parser.add_argument('--out', default='.', metavar='DIR', help='folder of the two files (default: this one)')
    parser.add_argument('--name', help='name of the files (default: the architecture)')
    parser.add_argument('--config', metavar='FILE', help="another shape: a tiny config.json, or a fixture's JSON")
    parser.add_argument('--weights', choices=['f32', 'f16', 'bf16'], default='f16')
    parser.add_argument('--seed', type=int, default=1, help='the first to try (default: 1)')
    parser.add_argument('--tries', type=int, default=200, help='how many seeds to try (default: 200)')
    args = parser.parse_args()
    arch, name = ARCHS[args.arch], args.name or args.arch
    paths = [os.path.join(args.out, f'{name}.{kind}') for kind in ('gguf', 'json')]
    for path in filter(os.path.exists, paths):
        sys.exit(f'golden: {path} is there already; remove it, or choose another --name')

    vocabulary = Vocabulary(arch.vocab)
    config = config_of(arch, args.config, vocabulary)
    causal = lambda config: transformers.AutoModelForCausalLM.from_config(config, attn_implementation='eager')
    model = (Embedder if arch.dense else causal)(config).eval()
    n = sum(p.numel() for p in model.parameters())
    if n > 2e6:
        sys.exit(f'golden: {n} parameters are too many for a fixture; take a config with smaller sizes')
    watch = Watch(model)
    dtype = {'f32': torch.float32, 'f16': torch.float16, 'bf16': torch.bfloat16}[args.weights]
    for seed in range(args.seed, args.seed + args.tries):
        random_weights(arch, model, seed, dtype)
        watch.gap = float('inf')
        try:
            prompts, measured = (embeddings if arch.dense else numbers)(model, watch)
            break
        except Unfit as e:
            print(f'golden: seed {seed}: {e}', file=sys.stderr)
    else:
        sys.exit('golden: no seed will do; try more, or other sizes')

    write_gguf(paths[0], name, args.arch, model, vocabulary, args.weights)
    values = {key: v for key, v in config.to_dict().items() if v is not None and key not in NOT_SHOWN}
    fixture = {
        'fixture': name, 'gguf': f'{name}.gguf', 'weights': args.weights, 'hf_class': type(model).__name__,
        'seed': seed,
        'versions': {p: version(p).split('+')[0] for p in ('transformers', 'torch', 'gguf')},
        'measured': measured, 'config': values, 'tokenizer_cases': vocabulary.cases, 'prompts': prompts,
    }
    with open(paths[1], 'w') as f:
        json.dump(fixture, f, ensure_ascii=False, separators=(',', ':'))
    for path in paths:
        print(f'{path} ({os.path.getsize(path) // 1024} KB)')
    print(f'seed {seed}, {measured}')


if __name__ == '__main__':
    main()
