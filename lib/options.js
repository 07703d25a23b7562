'use strict'

const { resolve } = require('node:path')
const { invalidArgument } = require('./error.js')
const { nearest } = require('./nearest.js')
const { settings, text, wrong } = require('./settings.js')

const common = ['apiKey', 'env', 'cwd', 'signal', 'onEvent']

/**
 * Reads the options object of a call.
 *
 * `own` names what this call alone takes, each with its check. Gives the request's context, the plumbing and the
 * checked own values. An option that is `undefined` counts as not given.
 */
function readOptions(call, options = {}, own = {}) {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidArgument(`${call}: options must be an object`)
  }
  const given = Object.entries(options).filter(([, value]) => value !== undefined)
  checkNames(call, given, [...Object.keys(own), ...common, ...Object.keys(settings)])
  const { apiKey, env = process.env, cwd = process.cwd(), signal, onEvent } = Object.fromEntries(given)
  const context = { env: readEnv('env', env), cwd: resolve(text('cwd', cwd)), settings: {} }
  if (apiKey !== undefined) context.apiKey = readKey(apiKey)
  const values = {}
  for (const [name, value] of given) {
    if (Object.hasOwn(own, name)) values[name] = own[name](name, value)
    else if (Object.hasOwn(settings, name)) context.settings[name] = settings[name](name, value)
  }
  return { context, signal: readSignal(signal), onEvent: readCallback('onEvent', onEvent), own: values }
}

function checkNames(call, given, known) {
  for (const [name] of given) {
    if (known.includes(name)) continue
    const near = nearest(name, known)
    throw invalidArgument(`${call} has no option \`${name}\`${near ? `; did you mean \`${near}\`?` : ''}`, { option: name })
  }
}

/** A copy of an environment: later changes do not reach a running call. */
function readEnv(name, env) {
  if (typeof env !== 'object' || env === null) throw wrong(name, 'an object', env)
  const copy = {}
  for (const [key, value] of Object.entries(env)) {
    if (value !== undefined) copy[key] = text(`${name}.${key}`, value)
  }
  return copy
}

// The message must not repeat the value: it may be a key that was put into the wrong type.
function readKey(value) {
  if (typeof value === 'string' && value.trim() !== '' && !value.includes('\0')) return value
  throw invalidArgument('option `apiKey` must be a non-empty string', { option: 'apiKey' })
}

function readSignal(signal) {
  if (signal === undefined) return undefined
  if (typeof signal?.aborted === 'boolean' && typeof signal.addEventListener === 'function') return signal
  throw wrong('signal', 'an AbortSignal', signal)
}

function readCallback(name, value) {
  if (value !== undefined && typeof value !== 'function') throw wrong(name, 'a function', value)
  return value
}

function boolean(name, value) {
  if (typeof value !== 'boolean') throw wrong(name, 'true or false', value)
  return value
}

/** A lease id, slug or instance id. */
function readId(call, id) {
  if (typeof id === 'string' && id.trim() !== '') return id
  throw invalidArgument(`${call} needs a lease id, slug or instance id (a string)`)
}

module.exports = { readOptions, readEnv, readSignal, readCallback, readId, boolean, checkNames }
