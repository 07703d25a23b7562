import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import * as edge from 'crabbox-vast/edge'

const require = createRequire(import.meta.url)
const { VastLeaseError } = require('crabbox-vast')

function anotherCopy() {
  const path = require.resolve('../lib/error.js')
  const kept = require.cache[path]
  delete require.cache[path]
  try {
    return require(path).VastLeaseError
  } finally {
    require.cache[path] = kept
  }
}

test('errors of another copy of the package are recognised, both ways', () => {
  for (const Other of [anotherCopy(), edge.VastLeaseError]) {
    assert.notEqual(Other, VastLeaseError)
    assert.ok(new Other('x') instanceof VastLeaseError)
    assert.ok(new VastLeaseError('x') instanceof Other)
  }
})

test('nothing else is taken for one', () => {
  for (const value of [new Error('x'), {}, null, undefined, 'x', { code: 'no_offers' }]) {
    assert.equal(value instanceof VastLeaseError, false)
  }
  class Special extends VastLeaseError {}
  assert.equal(new VastLeaseError('x') instanceof Special, false)
  assert.ok(new Special('x') instanceof VastLeaseError)
})

test('it carries code, hint, details and cause, and prints without the cause', () => {
  const cause = new Error('inner')
  const error = new VastLeaseError('no offer', { code: 'no_offers', hint: 'raise it', retryable: true, details: { cap: 1 }, cause }) // prettier-ignore
  assert.equal(error.name, 'VastLeaseError')
  assert.equal(error.cause, cause)
  assert.deepEqual(JSON.parse(JSON.stringify(error)), {
    name: 'VastLeaseError',
    code: 'no_offers',
    message: 'no offer',
    hint: 'raise it',
    retryable: true,
    details: { cap: 1 },
  })
})
