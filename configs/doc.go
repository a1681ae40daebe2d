// Package configs holds samples and unit files for installing Holdfast; nothing imports it. Its tests load every
// sample strictly, compare it with the code's defaults, and have systemd check the units.
package configs
