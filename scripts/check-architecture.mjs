// The rules of the architecture that a compiler does not check. Arrows point down only.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { complain, root } from './shared.mjs'

const engine = 'crates/engine/src'
const complaints = []

// which crates a package may not reach, by whichever way (development dependencies aside)
const forbiddenCrates = {
  'crabbox-vast-engine': ['napi', 'napi-derive', 'clap', 'indicatif', 'comfy-table', 'crabbox-vast-sim', 'crabbox-vast-proof', 'crabbox-vast-cli'],
  'crabbox-vast-sim': ['napi', 'clap', 'crabbox-vast-engine', 'crabbox-vast-cli'],
  'crabbox-vast-cli': ['napi', 'napi-derive', 'crabbox-vast-node'],
  'crabbox-vast-node': ['clap', 'crabbox-vast-sim', 'crabbox-vast-cli'],
}
for (const [name, forbidden] of Object.entries(forbiddenCrates)) {
  const args = ['tree', '--package', name, '--edges', 'normal', '--prefix', 'none', '--format', '{p}', '--locked']
  const tree = execFileSync('cargo', args, { cwd: root, encoding: 'utf8' })
  const reached = new Set(tree.split('\n').map((line) => line.split(' ')[0]))
  for (const crate of forbidden) if (reached.has(crate)) complaints.push(`${name} must not depend on ${crate}`)
}

// from each module of the engine: the modules below it
const below = {
  lease: [],
  vast: ['lease', 'store', 'world'], // its pacing slots are files, shared between processes
  store: ['lease', 'world'],
  ssh: ['lease', 'world'],
  sync: ['world'],
  config: ['lease', 'store', 'sync', 'world'],
  world: [],
  ops: ['lease', 'vast', 'store', 'ssh', 'sync', 'config', 'world'],
}
// What only the production side of the seams may name. Waiting is tokio's own timer, which a simulation pauses; the wall
// clock is not. A URL is parsed, not fetched, with `reqwest::Url`.
const effects =
  /\b(std::(?:fs|net|process|env)|tokio::(?:net|fs|process)|reqwest::(?!Url\b)\w+|std::time::Instant|std::time::\{[^}]*\bInstant\b[^}]*\}|SystemTime::now)\b/
const production = /^(world\/real|ssh\/client\.rs|config\/)/
const testing = /(_tests|\/tests|\/testing)\.rs$/
const pure = /\b(tokio|reqwest|async fn|async move)\b/
const printing = /\b(e?println!|e?print!|dbg!|std::process::exit)/

for (const file of sources(engine)) {
  const path = relative(join(root, engine), file)
  if (testing.test(path)) continue
  const module = path.split(/[/.]/)[0]
  const code = withoutTests(readFileSync(file, 'utf8'))
  const say = (what) => complaints.push(`${engine}/${path} ${what}`)
  for (const [, named] of code.matchAll(/\bcrate::(\w+)/g)) {
    if (module in below && named in below && named !== module && !below[module].includes(named)) {
      say(`must not use \`${named}\`, which is not below \`${module}\``)
    }
  }
  if (!production.test(path) && effects.test(code)) say(`names ${effects.exec(code)[0]}: effects go through \`world\``)
  if (module === 'lease' && pure.test(code)) say(`names ${pure.exec(code)[0]}: \`lease\` is pure`)
  if (printing.test(code)) say('prints or exits')
}

for (const lib of ['crates/engine/src/lib.rs', 'crates/sim/src/lib.rs', 'crates/proof/src/lib.rs', 'crates/cli/src/main.rs']) {
  if (!readFileSync(join(root, lib), 'utf8').includes('#![forbid(unsafe_code)]')) complaints.push(`${lib} must forbid unsafe code`)
}

complain(complaints, 'the architecture holds')

function sources(folder) {
  if (!existsSync(join(root, folder))) return []
  const entries = readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile() && entry.name.endsWith('.rs')).map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}

/** Code without comments, and without the test module that stands at the end of a file. */
function withoutTests(text) {
  const end = text.search(/^#\[cfg\(test\)\]\s*(#\[.*\]\s*)*mod /m)
  return (end < 0 ? text : text.slice(0, end)).replace(/\/\/.*$/gm, '')
}
