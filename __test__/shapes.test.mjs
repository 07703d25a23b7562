// Whoever throws it - the options, the engine, a stream, the edge entry -, an error has one shape.
import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { createRequire } from 'node:module'
import { after, before, test } from 'node:test'
import * as edge from 'crabbox-vast/edge'
import { crabbox, startSimulator } from './simulator.mjs'

const { fromNative } = createRequire(import.meta.url)('../lib/error.js')

let sim, lease
before(async () => {
  sim = await startSimulator()
  lease = await crabbox.acquire({ ...sim.options, slug: 'shapes' })
})
after(() => sim.close())

/** What a call fails with, thrown or rejected. */
async function failure(calling) {
  try {
    await calling()
  } catch (error) {
    return error
  }
  return assert.fail(`${calling} succeeds`)
}

const broken = async function* () {
  yield 'a'
  throw new Error('torn')
}

const shapes = {
  'an option without a name': ['invalid_argument', () => crabbox.list({ nonsense: 1 })],
  'an option of another type': ['invalid_argument', () => crabbox.acquire({ gpuCount: 'two' })],
  'a missing name': ['invalid_argument', () => crabbox.status()],
  'a command that is none': ['invalid_argument', () => lease.exec('ls')],
  'no command': ['invalid_argument', () => crabbox.run()],
  'a script that is not there': ['invalid_argument', () => crabbox.run({ ...sim.options, script: 'no such file' })],
  'a setting that does not fit': ['invalid_config', () => crabbox.list({ ...sim.options, ttl: 'soon' })],
  'a name that names nothing': ['lease_not_found', () => crabbox.release('nobody', sim.options)],
  'an API that is not there': ['api_unreachable', () => crabbox.list({ ...sim.options, apiUrl: 'http://127.0.0.1:9/api/v0' })],
  'nothing for rent': ['no_offers', () => crabbox.acquire({ ...sim.options, maxDphTotal: 0.001 })],
  'a run that contradicts itself': ['invalid_argument', () => crabbox.run({ ...sim.options, command: ['true'], id: 'a', slug: 'b' })],
  'a run on nothing': ['lease_not_found', () => crabbox.run({ ...sim.options, command: ['true'], id: 'nobody', sync: false })],
  'a copy of nothing': ['invalid_argument', () => lease.copyTo('nothing here', 'x')],
  'a standard input that breaks': ['invalid_argument', () => lease.exec(['cat'], { stdin: broken() })],
  'output that is read twice': [
    'invalid_state',
    async () => {
      const command = lease.exec(['echo', 'x'])
      for await (const _ of command);
      for await (const _ of command);
    },
  ],
  'a port that is taken': [
    'invalid_argument',
    async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await new Promise((resolve) => server.once('listening', resolve))
      await lease.tunnel(`${server.address().port}:80`).finally(() => server.close())
    },
  ],
  'a size that is none': ['invalid_argument', () => lease.shell({ columns: 0 })],
  'a lease that was released': [
    'invalid_state',
    async () => {
      await lease.release()
      await lease.status()
    },
  ],
  'a command on what was released': ['invalid_state', () => lease.exec(['true'])],
  'what is not of the engine': ['internal', () => { throw fromNative(new TypeError('x')) }], // prettier-ignore
  'a runtime without addons': ['unsupported_runtime', () => edge.acquire()],
  'a class without addons': ['unsupported_runtime', () => new edge.Lease()],
}

for (const [name, [code, calling]] of Object.entries(shapes)) {
  test(name, async () => {
    const error = await failure(calling)
    assert.ok(error instanceof crabbox.VastLeaseError && error instanceof Error, String(error))
    assert.equal(error.code, code, error.message)
    assert.ok(typeof error.hint === 'string' && error.hint !== '', `${error.message}: no hint`)
    assert.equal(typeof error.retryable, 'boolean')
    assert.ok(error.details !== null && typeof error.details === 'object')
    assert.doesNotMatch(error.message, /\n/)
    const { name: word, stack: _none, ...rest } = error.toJSON()
    assert.equal(word, 'VastLeaseError')
    assert.deepEqual(Object.keys(rest).sort(), ['code', 'details', 'hint', 'message', 'retryable'])
    assert.doesNotMatch(JSON.stringify(error), new RegExp(sim.apiKey))
  })
}
