#!/usr/bin/env bash
# Packages: @webgpu/types 0.1.74 with typescript 5.9.3 and 7.0.2 (npm).
# Behaviour: TypeScript 7's own DOM library declares WebGPU, and @webgpu/types declares it again. A strict project that
#   lists both gets errors, many of them inside TypeScript's lib.dom.d.ts; under 5.9.3 the same project compiles, and
#   without the package it does not. With skipLibCheck the errors of both libraries go unreported. A published package
#   cannot name either in its declarations and be right for both compilers; `typesVersions`-like conditions
#   ("types@>=6") can. And TypeScript's library has no
#   constants: GPUBufferUsage and its like are unknown to it.
# Guess: declarations that merge, as interfaces do. Type aliases, modifiers and types of variables differ.
# Seen on 2026-11-30:
#   typescript 5.9.3 with the package: 0 errors, without: 1
#   typescript 7.0.2 with the package: 182 errors, without: 0
#   in lib.dom.d.ts: 71
#   typescript 7.0.2, constants without the package: 1
set -euo pipefail
command -v node >/dev/null || { echo "node is needed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for version in 5.9.3 7.0.2; do
  mkdir "$version"
  (
    cd "$version"
    echo '{ "type": "module", "private": true }' > package.json
    npm install --silent --no-audit --no-fund "typescript@$version" @webgpu/types@0.1.74
    echo 'export let device: GPUDevice | undefined;' > without.ts
    echo 'export const usage: number = GPUBufferUsage.STORAGE;' > constants.ts
    { echo '/// <reference types="@webgpu/types" />'; cat without.ts; } > with.ts
    for kind in with without constants; do
      cat > "$kind.json" <<JSON
{ "compilerOptions": { "target": "es2022", "module": "nodenext", "lib": ["es2023", "dom"], "strict": true,
  "noEmit": true, "skipLibCheck": false, "types": [] }, "files": ["$kind.ts"] }
JSON
      npx tsc -p "$kind.json" > "$kind.txt" || true
    done
  )
done
count() { grep -c "error TS" "$1" || true; }
echo "typescript 5.9.3 with the package: $(count 5.9.3/with.txt) errors, without: $(count 5.9.3/without.txt)"
echo "typescript 7.0.2 with the package: $(count 7.0.2/with.txt) errors, without: $(count 7.0.2/without.txt)"
inside=$(grep -c "lib\.dom\.d\.ts.*error TS" 7.0.2/with.txt || true)
echo "in lib.dom.d.ts: $inside"
echo "typescript 7.0.2, constants without the package: $(count 7.0.2/constants.txt)"
[ "$(count 5.9.3/with.txt)" = 0 ] && [ "$(count 5.9.3/without.txt)" != 0 ] && [ "$(count 7.0.2/without.txt)" = 0 ] &&
  [ "$(count 7.0.2/with.txt)" -gt 100 ] && [ "$inside" -gt 0 ] && [ "$(count 7.0.2/constants.txt)" = 1 ]
