// Loads the package over the stand-in for its addon.
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

export const fixture = fileURLToPath(new URL('./fixtures/native.cjs', import.meta.url))
process.env.NAPI_RS_NATIVE_LIBRARY_PATH = fixture

const require = createRequire(import.meta.url)
export const fake = require(fixture)
export const crabbox = require('crabbox-vast')

export const called = (name) => fake.calls.filter((call) => call.name === name).at(-1)
