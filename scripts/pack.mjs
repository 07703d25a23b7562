// Fills a platform package with a built addon and binary, and packs it and the main package into a folder.
//
//   node scripts/pack.mjs [--target TRIPLE] [--out FOLDER]
//
// The binary may be the static one of the same architecture: on Linux it needs no libc and starts faster.
import { chmodSync, copyFileSync, existsSync, mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { complain, hostTarget, platformOf, readJson, root, run } from './shared.mjs'

const { values } = parseArgs({ options: { target: { type: 'string' }, out: { type: 'string', default: 'target/npm' } } })
const target = values.target ?? hostTarget()
const { platform } = platformOf(target)
const { napi } = readJson('package.json')

const addon = `${napi.binaryName}.${platform}.node`
const targets = [target.replace(/-gnu$/, '-musl'), target]
const binary = targets.map((name) => join(root, 'target', name, 'release', napi.binaryName)).find(existsSync)
const complaints = []
if (!napi.targets.includes(target)) complaints.push(`${target} is not among napi.targets in package.json`)
if (!binary || !existsSync(join(root, addon))) complaints.push('nothing to pack: run `npm run build` first')
complain(complaints, `packing ${target}`)

const folder = join(root, 'npm', platform)
copyFileSync(join(root, addon), join(folder, addon))
copyFileSync(binary, join(folder, napi.binaryName))
chmodSync(join(folder, napi.binaryName), 0o755)

const out = resolve(root, values.out)
mkdirSync(out, { recursive: true })
for (const packed of [folder, root]) run('npm', ['pack', packed, '--pack-destination', out, '--ignore-scripts'])
