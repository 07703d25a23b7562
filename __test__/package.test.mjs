import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as imported from 'crabbox-vast'
import * as edge from 'crabbox-vast/edge'
import { settingsFiles } from '../scripts/settings.mjs'

const require = createRequire(import.meta.url)
const required = require('crabbox-vast')
const root = fileURLToPath(new URL('..', import.meta.url))
const binding = require('../binding.js')

test('require and import give the same things', () => {
  assert.equal(imported.default, required)
  for (const name of Object.keys(required)) assert.equal(imported[name], required[name], name)
  assert.ok(Object.keys(required).length >= 12)
})

test('addon, package and edge entry are one version', () => {
  const { version } = require('crabbox-vast/package.json')
  assert.equal(binding.version(), version)
  assert.equal(required.version, version)
  assert.equal(edge.version, version)
})

test('an import alone does not load the addon', () => {
  const script = "require('crabbox-vast'); console.log(Object.keys(require.cache).filter((f) => /\\.node$|binding\\.js$/.test(f)).length)"
  const { stdout } = spawnSync(process.execPath, ['-e', script], { cwd: root, encoding: 'utf8' })
  assert.equal(stdout.trim(), '0')
})

test('an addon that cannot be loaded says why, and what to do', () => {
  const script = "require('crabbox-vast').list().catch((e) => console.log(JSON.stringify(e)))"
  const env = { ...process.env, NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere/addon.node' }
  const { stdout } = spawnSync(process.execPath, ['-e', script], { cwd: root, encoding: 'utf8', env })
  const error = JSON.parse(stdout || '{}')
  assert.equal(error.code, 'native_unavailable', stdout)
  assert.match(error.hint, /npm run build/)
})

test('the typings name exactly the codes of the engine', () => {
  const text = readFileSync(`${root}/lib/error.d.ts`, 'utf8')
  const union = text.slice(text.indexOf('VastEngineCode ='), text.indexOf('/**', text.indexOf('VastEngineCode =')))
  const typed = [...union.matchAll(/\| '(\w+)'/g)].map(([, code]) => code)
  assert.deepEqual(
    typed,
    binding.errorCodes().map(({ code }) => code),
  )
})

test('the addon has its own cancel token', () => {
  const cancel = new binding.Cancel()
  cancel.cancel()
  assert.equal(cancel.wait(0), true)
  assert.equal(cancel.wait(Number.NaN), true)
})

test('the package holds what it needs, and nothing of the build', () => {
  const { stdout } = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, encoding: 'utf8' })
  const listed = JSON.parse(stdout)
  const [{ files }] = Array.isArray(listed) ? listed : Object.values(listed)
  const paths = files.map(({ path }) => path)
  for (const needed of ['LICENSE', 'README.md', 'index.js', 'index.d.ts', 'binding.js', 'edge.mjs', 'edge.d.mts', 'bin/crabbox-vast.js', 'lib/lease.js', 'lib/lease.d.ts']) { // prettier-ignore
    assert.ok(paths.includes(needed), `${needed} is missing`)
  }
  for (const path of paths) assert.doesNotMatch(path, /\.rs$|\.node$|^(target|__test__|crates|npm|scripts)\//)
})

test('checks and typings of the options are those of the engine’s settings', () => {
  for (const [path, text] of settingsFiles()) assert.equal(readFileSync(`${root}/${path}`, 'utf8'), text, path)
  const { settings } = require('../lib/settings.js')
  const keys = binding.settings().map(({ key }) => key)
  assert.deepEqual([...Object.keys(settings), 'apiKey'].sort(), keys.sort())
})

test('the addon itself refuses numbers that would wrap, relative folders and unknown settings', async () => {
  const context = { env: { HOME: '/nowhere', CRABBOX_VAST_API_KEY: 'x' }, cwd: '/', settings: {} }
  const refused = (calling, pattern) => assert.rejects(calling, (error) => error.engine && error.code === 'invalid_argument' && pattern.test(error.message))
  const status = (waitTimeoutSeconds) => binding.status({ context, id: 'x', wait: true, waitTimeoutSeconds }, new binding.Cancel(), null)
  for (const value of [-1, 1.7, Number.NaN, Infinity, 2 ** 53]) await refused(status(value), /`waitTimeout` must be a whole number/)
  const list = (change) => binding.list({ context: { ...context, ...change }, all: false }, new binding.Cancel(), null)
  await refused(list({ cwd: 'here' }), /`cwd` must be an absolute path/)
  await refused(list({ settings: { nothing: '1' } }), /unknown option nothing/)
})
