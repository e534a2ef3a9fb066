#!/usr/bin/env bash
# Builds web/bindings for each kind of browser into web/pkg, shrinks the results, and prints and checks their size.
#
#   base             SIMD, one thread: what every browser has
#   relaxed          relaxed SIMD
#   threads          shared memory, for pages that are cross-origin isolated
#   threads-relaxed  both
#
# WASM_BUILDS="base" builds some only, for trying things out: a page then takes the best of those. WASM_OPT=0 leaves
# wasm-opt out.
set -euo pipefail
cd "$(dirname "$0")/../.."
lines=$(tests/tools/setup.sh env)
eval "$lines"
builds=${WASM_BUILDS:-base relaxed threads threads-relaxed}
limit=2000000 # bytes, gzipped

# Beside the native build, not in it: it may be another rustc, and each would throw away the other's work.
target=${CARGO_TARGET_DIR:-$PWD/target}/wasm
# Lets a stable compiler build its standard library along.
export RUSTC_BOOTSTRAP=1
simd='-C target-feature=+simd128'
shared='-C target-feature=+simd128,+atomics,+bulk-memory,+mutable-globals -C link-arg=--shared-memory
  -C link-arg=--import-memory -C link-arg=--max-memory=4294967296 -C link-arg=--export=__wasm_init_tls
  -C link-arg=--export=__tls_size -C link-arg=--export=__tls_align -C link-arg=--export=__tls_base'
# The features are those that rustc was told to use and those it uses anyway; wasm-opt must not take one away.
features='--enable-simd --enable-bulk-memory --enable-nontrapping-float-to-int --enable-sign-ext --enable-mutable-globals
  --enable-reference-types --enable-multivalue'

# Built beside the old package and moved over it, so that a failed build leaves that usable.
out=web/pkg.new
rm -rf $out
mkdir -p $out

# build NAME FOLDER RUSTFLAGS CARGO-OPTIONS WASM-OPT-OPTIONS
build() {
  CARGO_TARGET_DIR=$2 RUSTFLAGS=$3 wasm-pack --quiet build web/bindings --mode no-install --target web --no-pack \
    --no-gitignore --no-opt --profile wasm --out-dir "../../$out/$1" --out-name pagelm \
    -- --locked -Z build-std=std,panic_abort -Z build-std-features=optimize_for_size $4
  local wasm=$out/$1/pagelm_bg.wasm small=$out/pagelm-$1.wasm
  if [ "${WASM_OPT:-1}" = 1 ]; then
    # While the next one compiles. It prints the names that it shortened.
    node web/node_modules/binaryen/bin/wasm-opt -O3 --minify-imports-and-exports-and-modules $features $5 "$wasm" \
      -o "$small" >"$out/$1/names.json" &
    optimising="$optimising $!"
  else
    cp "$wasm" "$small"
  fi
}
# Builds that share compiled dependencies, one after the other.
group() {
  local name pid optimising=
  for name in $builds; do
    case $1,$name in
      plain,base) build base "$target" "$simd" '' '' ;;
      plain,relaxed) build relaxed "$target" "$simd" '--features relaxed-simd' '--enable-relaxed-simd' ;;
      shared,threads) build threads "$target/shared" "$shared" '' '--enable-threads' ;;
      shared,threads-relaxed)
        build threads-relaxed "$target/shared" "$shared" '--features relaxed-simd' '--enable-threads --enable-relaxed-simd'
        ;;
    esac
  done
  for pid in $optimising; do wait "$pid"; done
}
for name in $builds; do
  case $name in
    base | relaxed | threads | threads-relaxed) ;;
    *) echo "no such build: $name" >&2; exit 2 ;;
  esac
done
# Beside each other: the last half of a build keeps one core only.
group shared &
beside=$!
group plain
wait "$beside"
for name in $builds; do
  [ "${WASM_OPT:-1}" != 1 ] || node tests/tools/shorten.mjs "$out/$name/pagelm.js" "$out/$name/names.json"
done

# The scripts of two builds mostly differ in comments only: then there is one, and the page loads it once.
same() { printf 'export * from "../%s/pagelm.js";\nexport { default } from "../%s/pagelm.js";\n' "$1" "$1"; }
code() { grep -v '^ *//' "$out/$1/pagelm.js"; }
for name in $builds; do
  plain=${name/relaxed/base} plain=${plain/threads-base/threads}
  if [ "$plain" != "$name" ] && [ -e "$out/$plain" ] && cmp -s <(code "$plain") <(code "$name"); then
    same "$plain" "$name" | tee "$out/$name/pagelm.js" >"$out/$name/pagelm.d.ts"
  fi
  rm -f "$out/$name/"*_bg.wasm* "$out/$name/names.json"
done
# That for threads serves the others too.
if [ "${WASM_OPT:-1}" = 1 ] && [ -e $out/base ] && [ -e $out/threads ]; then
  modules=$out/pagelm-base.wasm
  if grep -qs '"../base/' $out/relaxed/pagelm.js; then modules+=" $out/pagelm-relaxed.wasm"; fi
  node tests/tools/share-script.mjs $out/base/pagelm.js $out/threads/pagelm.js $modules
  node tests/tools/slim-script.mjs $out/threads/pagelm.js
  same threads base >$out/base/pagelm.js
fi

# The scripts of all of them, for the worker, each under the name of the build that has it.
script() {
  local other=$(sed -n 's|^export \* from "../\(.*\)/pagelm.js";|\1|p' "$out/$1/pagelm.js")
  if [ "$other" ]; then script "$other"; else echo "${1/-/_}"; fi
}
{
  for name in $builds; do script "$name"; done | sort -u | sed 's|.*|import * as & from "./&/pagelm.js";|; s|from "./threads_|from "./threads-|'
  echo 'export const builds = {'
  for name in $builds; do echo "  \"$name\": $(script "$name"),"; done
  echo '};'
} >$out/builds.js

for name in $builds; do
  # As the package's test counts: gzip itself makes it a hundredth smaller.
  size=$(node -p 'require("zlib").gzipSync(require("fs").readFileSync(process.argv[1]), { level: 9 }).length' "$out/pagelm-$name.wasm")
  echo "pagelm-$name.wasm: $(wc -c <"$out/pagelm-$name.wasm") bytes, $size gzipped"
  [ "$size" -lt $limit ] || [ "${WASM_OPT:-1}" != 1 ] || { echo "over $limit bytes gzipped" >&2; exit 1; }
done
rm -rf web/pkg
mv $out web/pkg
