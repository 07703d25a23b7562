'use strict'

const { call } = require('./call.js')
const { Lease, leaseOf } = require('./lease.js')
const { native } = require('./native.js')
const { boolean, readId, readOptions } = require('./options.js')
const { action, text, whole } = require('./settings.js')

async function acquire(options) {
  const own = { keep: boolean, slug: text, leaseId: text, releaseOnExit: boolean }
  const { context, own: wanted, ...plumbing } = readOptions('acquire', options, own)
  const { keep = false, slug, leaseId, releaseOnExit = !keep } = wanted
  const names = { ...(slug !== undefined && { slug }), ...(leaseId !== undefined && { leaseId }) }
  return call({ ...plumbing, atExit: 'undo' }, async (cancel, events) => {
    const handle = await native().acquire({ context, keep, ...names }, cancel, events)
    // in the same turn as the answer: a lease is never without somebody who ends it
    return leaseOf(handle, { releaseOnExit, releaseOnDispose: !keep })
  })
}

async function open(id, options) {
  const { context, own, ...plumbing } = readOptions('open', options, { reclaim: boolean })
  const request = { context, id: readId('open', id), reclaim: own.reclaim ?? false }
  return call(plumbing, async (cancel, events) => leaseOf(await native().open(request, cancel, events)))
}

async function start(id, options) {
  const { context, own: _none, ...plumbing } = readOptions('start', options)
  const request = { context, id: readId('start', id) }
  return call({ ...plumbing, atExit: 'undo' }, async (cancel, events) => leaseOf(await native().start(request, cancel, events)))
}

async function release(id, options) {
  const { context, own, ...plumbing } = readOptions('release', options, { action })
  const request = { context, id: readId('release', id), ...own }
  return call({ ...plumbing, atExit: 'finish' }, (cancel, events) => native().release(request, cancel, events))
}

async function list(options) {
  const { context, own, ...plumbing } = readOptions('list', options, { all: boolean })
  return call(plumbing, (cancel, events) => native().list({ context, all: own.all ?? false }, cancel, events))
}

async function status(id, options) {
  const { context, own, ...plumbing } = readOptions('status', options, { wait: boolean, waitTimeout: number })
  const request = { context, id: readId('status', id), wait: own.wait ?? false }
  if (own.waitTimeout !== undefined) request.waitTimeoutSeconds = own.waitTimeout
  return call(plumbing, (cancel, events) => native().status(request, cancel, events))
}

async function touch(id, options) {
  const { context, own: _none, ...plumbing } = readOptions('touch', options)
  const request = { context, id: readId('touch', id) }
  return call(plumbing, (cancel, events) => native().touch(request, cancel, events))
}

async function doctor(options) {
  const { context, own, ...plumbing } = readOptions('doctor', options, { id: (_name, id) => readId('doctor', id) })
  return call(plumbing, (cancel, events) => native().doctor({ context, ...own }, cancel, events))
}

async function searchOffers(options) {
  const { context, own, ...plumbing } = readOptions('searchOffers', options, { limit: number })
  return call(plumbing, (cancel, events) => native().searchOffers({ context, ...own }, cancel, events))
}

/** A whole number, as a number. */
function number(name, value) {
  return Number(whole(name, value))
}

module.exports = { acquire, open, start, release, list, status, touch, doctor, searchOffers, Lease }
