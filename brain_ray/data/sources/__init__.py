"""Sources of images, folder trees and manifests, as one table of files."""
