'use strict'

const { invalidArgument } = require('./error.js')

const show = (value) => (typeof value === 'string' ? JSON.stringify(value) : String(value))

function wrong(name, what, value) {
  const got = value === null ? 'null' : typeof value === 'number' || typeof value === 'string' ? show(value) : `a ${typeof value}`
  return invalidArgument(`option \`${name}\` must be ${what}, not ${got}`, { option: name })
}

/** Text without NUL. */
function text(name, value) {
  if (typeof value !== 'string' || value.includes('\0')) throw wrong(name, 'a string', value)
  return value
}

/** A whole number of zero or more; also what the addon would otherwise wrap or cut. */
function whole(name, value) {
  if (!Number.isSafeInteger(value) || value < 0) throw wrong(name, 'a whole number of zero or more', value)
  return String(value)
}

/** A number of zero or more. */
function amount(name, value) {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) throw wrong(name, 'a number of zero or more', value)
  return String(value)
}

/** A number from 0 to 1. */
function share(name, value) {
  if (typeof value !== 'number' || !(value >= 0 && value <= 1)) throw wrong(name, 'a number from 0 to 1', value)
  return String(value)
}

/** Whole seconds, or text like `90m` or `1h30m`, which the engine reads. */
function duration(name, value) {
  if (typeof value === 'string') return text(name, value)
  if (!Number.isSafeInteger(value) || value < 0) {
    throw wrong(name, 'a whole number of seconds or a duration such as "90m"', value)
  }
  return `${value}s`
}

/** One of these words. */
const oneOf =
  (...words) =>
  (name, value) => {
    if (!words.includes(value)) throw wrong(name, `one of ${words.map(show).join(', ')}`, value)
    return value
  }

const action = oneOf('destroy', 'stop', 'keep')

// The names are the keys of the `vast:` section in the configuration file; the values become text, as flags are.
const settings = {
  apiUrl: text,
  instanceType: oneOf('ondemand', 'interruptible'),
  gpuName: text,
  gpuCount: whole,
  image: text,
  templateId: text,
  runtype: text,
  diskGB: whole,
  maxDphTotal: amount,
  minReliability: share,
  order: text,
  user: text,
  workRoot: text,
  releaseAction: action,
  ttl: duration,
  idleTimeout: duration,
}

module.exports = { settings, text, whole, duration, action, wrong }
