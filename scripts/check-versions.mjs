// All versions agree: package.json, its lock, Cargo.toml, edge.mjs, npm/*, and what the built things say.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { complain, platformOf, readJson, root } from './shared.mjs'

const manifest = readJson('package.json')
const lock = readJson('package-lock.json')
const cargo = readFileSync(join(root, 'Cargo.toml'), 'utf8')
const edge = readFileSync(join(root, 'edge.mjs'), 'utf8')

const found = [
  ['package-lock.json', lock.version],
  ['Cargo.toml', /\[workspace\.package\]\s+version = "([^"]+)"/.exec(cargo)?.[1]],
  ['edge.mjs', /export const version = '([^']+)'/.exec(edge)?.[1]],
]
for (const target of manifest.napi.targets) {
  const path = `npm/${platformOf(target).platform}/package.json`
  found.push([path, readJson(path).version])
}
const require = createRequire(import.meta.url)
if (process.argv.includes('--built')) {
  found.push(['the addon', require('../binding.js').version()])
  const binary = require('../lib/binary.js').binaryPath()
  const said = execFileSync(binary, ['--version'], { encoding: 'utf8' })
  found.push([`${binary} --version`, /\d+\.\d+\.\d+\S*/.exec(said)?.[0]])
}

const complaints = found
  .filter(([, version]) => version !== manifest.version)
  .map(([where, version]) => `${where} has version ${version}, package.json has ${manifest.version}`)
for (const [path, entry] of Object.entries(lock.packages)) {
  if (entry.resolved && !entry.link) complaints.push(`package-lock.json records where ${path} is fetched from`)
}
if (!existsSync(join(root, 'LICENSE'))) complaints.push('LICENSE is missing')
if (Object.keys(manifest.dependencies ?? {}).length > 0) complaints.push('package.json has runtime dependencies')
complain(complaints, `everything is version ${manifest.version}`)
