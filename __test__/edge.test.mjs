import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as edge from 'crabbox-vast/edge'

const root = fileURLToPath(new URL('..', import.meta.url))
const main = createRequire(import.meta.url)('crabbox-vast')

test('it has the names of the main entry', () => {
  assert.deepEqual(Object.keys(edge).sort(), Object.keys(main).sort())
})

test('every call fails with a code and a hint', async () => {
  const throwing = ['installSignalHandlers', 'binaryPath']
  const calls = Object.keys(edge).filter((name) => /^[a-z]/.test(name) && name !== 'version' && !throwing.includes(name))
  assert.ok(calls.length >= 20)
  for (const name of calls) {
    assert.equal(edge[name].name, name)
    await assert.rejects(edge[name](), { name: 'VastLeaseError', code: 'unsupported_runtime' })
  }
  for (const name of throwing) assert.throws(edge[name], { code: 'unsupported_runtime' })
  for (const name of ['Lease', 'Tunnel', 'Shell']) assert.throws(() => new edge[name](), { code: 'unsupported_runtime' })
})

for (const condition of ['workerd', 'browser']) {
  test(`the condition ${condition} chooses it`, () => {
    const script = "import('crabbox-vast').then((m) => m.list()).catch((e) => console.log(e.code))"
    const args = ['--conditions', condition, '--input-type=module', '-e', script]
    const { stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
    assert.equal(stdout.trim(), 'unsupported_runtime')
  })
}
