'use strict'

const { call } = require('./call.js')
const { native } = require('./native.js')
const { boolean, readId, readOptions } = require('./options.js')
const { wrong } = require('./settings.js')

async function cleanup(options) {
  const { context, own, ...plumbing } = readOptions('cleanup', options, { dryRun: boolean })
  const request = { context, dryRun: own.dryRun ?? false }
  return call({ ...plumbing, atExit: 'finish' }, (cancel, events) => native().cleanup(request, cancel, events))
}

async function listClaims(options) {
  const { context, own: _none, ...plumbing } = readOptions('listClaims', options)
  return call(plumbing, (cancel) => native().listClaims({ context }, cancel))
}

async function forget(id, options) {
  const { context, own, ...plumbing } = readOptions('forget', options, { yes: boolean })
  const request = { context, id: readId('forget', id), yes: own.yes ?? false }
  return call({ ...plumbing, atExit: 'finish' }, (cancel, events) => native().forget(request, cancel, events))
}

async function adopt(id, options) {
  const { context, own, ...plumbing } = readOptions('adopt', options, { keep: boolean })
  const request = { context, id: readId('adopt', id), keep: own.keep ?? false }
  return call({ ...plumbing, atExit: 'finish' }, (cancel, events) => native().adopt(request, cancel, events))
}

async function copy(from, to, options) {
  const { context, own, ...plumbing } = readOptions('copy', options, { reclaim: boolean })
  const request = { context, from: path('from', from), to: path('to', to), reclaim: own.reclaim ?? false }
  return call(plumbing, (cancel, events) => native().copy(request, cancel, events))
}

async function sshCommand(id, options) {
  const { context, own, ...plumbing } = readOptions('sshCommand', options, { reclaim: boolean })
  const request = { context, id: readId('sshCommand', id), reclaim: own.reclaim ?? false }
  return call(plumbing, (cancel, events) => native().sshCommand(request, cancel, events))
}

async function liveSmoke(options) {
  const { context, own: _none, ...plumbing } = readOptions('liveSmoke', options)
  return call({ ...plumbing, atExit: 'undo' }, (cancel, events) => native().liveSmoke({ context }, cancel, events))
}

async function showConfig(options) {
  const { context, own, ...plumbing } = readOptions('showConfig', options, { origin: boolean })
  return call(plumbing, (cancel) => native().showConfig({ context, origin: own.origin ?? false }, cancel))
}

async function providers() {
  return call({}, () => native().providers())
}

/** A path that is not empty. */
function path(name, value) {
  if (typeof value !== 'string' || value === '' || value.includes('\0')) throw wrong(name, 'a path (a string)', value)
  return value
}

module.exports = { cleanup, listClaims, forget, adopt, copy, sshCommand, liveSmoke, showConfig, providers, path }
